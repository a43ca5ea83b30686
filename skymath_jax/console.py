"""What a person sees while work runs: one-line events and progress bars with an ETA, on standard error."""

import contextlib
import functools
import sys
import threading
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.progress import TimeRemainingColumn as Remaining

QUIET_SECONDS = 30.0  # between lines of progress where there is no terminal

console = Console(stderr=True, highlight=False, soft_wrap=True)


def log(message: str) -> None:
  """Prints one line for an event that a person would act on."""
  console.print(message, markup=False)


@functools.cache
def log_once(message: str) -> None:
  """`log` for what every call would repeat."""
  log(message)


class Bar:
  """A running progress bar; `note` is a short live text such as `3,100 tokens/s`."""

  def __init__(self, progress: Progress, task: TaskID):
    self._progress = progress
    self._task = task

  def advance(self, amount: int = 1, note: str | None = None) -> None:
    """Moves the bar by `amount`."""
    self._progress.update(self._task, advance=amount)
    if note is not None:
      self._progress.update(self._task, note=note)


@contextlib.contextmanager
def bar(description: str, total: int, *, done: int = 0) -> Iterator[Bar]:
  """A progress bar with ETA; where standard error is no terminal, a line every half minute and one at the end."""
  columns = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    Elapsed(),
    TextColumn("eta"),
    Remaining(),
    TextColumn("{task.fields[note]}"),
  )
  terminal = sys.stderr.isatty()
  with Progress(*columns, console=console, disable=not terminal) as progress:
    task = progress.add_task(description, total=total, completed=done, note="")
    ended = threading.Event()
    marks = [(0.0, float(done))]  # (seconds, completed) of every line

    def tell() -> None:
      now = progress.tasks[0]
      took = now.elapsed or 0.0
      # by the latter half of the time: a resumed run begins with what costs nothing
      began, before = [mark for mark in marks if mark[0] <= took / 2][-1]
      marks.append((took, now.completed))
      made, missing = now.completed - before, total - now.completed
      left = f", about {(took - began) / made * missing:.0f} s left" if made > 0 and missing else ""
      log(f"{description}: {int(now.completed):,} of {total:,} in {took:.1f} s{left} {now.fields['note']}")

    def tell_now_and_then() -> None:
      while not ended.wait(QUIET_SECONDS):
        tell()

    if not terminal:
      threading.Thread(target=tell_now_and_then, name="progress", daemon=True).start()
    try:
      yield Bar(progress, task)
    finally:
      ended.set()
    if not terminal:
      tell()
