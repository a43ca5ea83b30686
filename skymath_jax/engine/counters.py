"""What an engine has done since it was started, for people and for `/metrics`."""

import collections
import threading
import time


class Counters:
  """Totals since the start; safe to use from any thread.

  Requests: accepted = completed + failed + cancelled + those waiting or running; `refused` found the queue full,
  `rejected` were at fault. `generated_tokens` counts as tokens are made, `completion_tokens` once a response is whole.
  """

  NAMES = (
    *("accepted", "completed", "failed", "cancelled", "refused", "rejected"),
    *("prompt_tokens", "completion_tokens", "generated_tokens"),
    *("prefill_seconds", "generate_seconds", "generate_calls"),
  )
  WINDOW = 10.0  # seconds over which `tokens_per_second` looks back

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._values: dict[str, float] = dict.fromkeys(self.NAMES, 0)
    self._recent: collections.deque[tuple[float, float]] = collections.deque()

  def add(self, **amounts: float) -> None:
    """Adds to the named totals."""
    with self._lock:
      for name, amount in amounts.items():
        self._values[name] += amount
      if "generated_tokens" in amounts:
        self._recent.append((time.monotonic(), amounts["generated_tokens"]))
        self._forget()

  def read(self) -> dict[str, float]:
    """A copy of all totals."""
    with self._lock:
      return dict(self._values)

  def tokens_per_second(self) -> float:
    """New tokens a second, over the last ten seconds."""
    with self._lock:
      self._forget()
      return sum(tokens for _, tokens in self._recent) / self.WINDOW

  def _forget(self) -> None:
    while self._recent and self._recent[0][0] < time.monotonic() - self.WINDOW:
      self._recent.popleft()
