"""A server as a child process: started, waited for, watched, and gone when its parent is.

Example::

  with ServerProcess([sys.executable, "-m", "skymath_jax.cli", "serve", "--model=asset:teacher", "--port=0"]) as server:
    server.wait_until_ready(300)
    client = JetStreamGenerator([server.address], tokenizer, model_id, concurrency=64)
"""

import contextlib
import re
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from skymath_jax.errors import UserError

LISTENS = re.compile(r"^serving .*: gRPC (\S+), HTTP (\S+)$", re.MULTILINE)
MAX_LOG_LINES = 15


class ServerProcess:
  """Starts `command` at once, with a pipe as standard input; `wait_until_ready` waits for its line `ready`.

  Args:
    command: a `skymath serve …` command, best with `--exit_with_parent`.
    log_path: where its standard error goes; a temporary file if not given.
  """

  def __init__(self, command: Sequence[str], *, log_path: str | None = None):
    if log_path is None:
      log_path = tempfile.mkstemp(prefix="skymath_serve_", suffix=".log")[1]
    self.log_path = Path(log_path)
    self.log_path.parent.mkdir(parents=True, exist_ok=True)
    self._ready = threading.Event()
    with self.log_path.open("wb") as log:
      self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    self._reader = threading.Thread(target=self._read, daemon=True)
    self._reader.start()

  def __enter__(self) -> "ServerProcess":
    return self

  def __exit__(self, *_: object) -> None:
    self.stop()

  def _read(self) -> None:
    assert self.process.stdout is not None
    for line in self.process.stdout:
      if line.strip() == b"ready":
        self._ready.set()

  @property
  def alive(self) -> bool:
    """Whether the process runs."""
    return self.process.poll() is None

  def wait_until_ready(self, seconds: float = 900.0) -> "ServerProcess":
    """Returns itself once the server is healthy.

    Raises:
      UserError: it ended, or took longer than `seconds`; the last lines of its log are in the message.
    """
    end = time.monotonic() + seconds
    while not self._ready.wait(0.05):
      if not self.alive or time.monotonic() > end:
        why = f"took more than {seconds:.0f} s" if self.alive else f"ended with exit code {self.process.returncode}"
        raise self._unhealthy(why)
    return self

  def check(self) -> None:
    """Looks whether it still runs.

    Raises:
      UserError: the server has died.
    """
    if not self.alive:
      raise self._unhealthy(f"ended with exit code {self.process.returncode}")

  def _unhealthy(self, why: str) -> UserError:
    lines = self.log_path.read_text(errors="replace").strip().splitlines()[-MAX_LOG_LINES:]
    self.stop()
    return UserError(
      f"the server is not healthy: it {why}; the end of its log is:\n" + "\n".join(lines) + "\n",
      where=self.log_path,
      remedy="put right what the log says, or allow more time (teacher.start_seconds)",
    )

  def _listens(self, group: int) -> str:
    found = LISTENS.search(self.log_path.read_text(errors="replace"))
    if found is None:
      raise self._unhealthy("has not said where it listens")
    return found[group]

  @property
  def address(self) -> str:
    """`host:port` of the gRPC service of a ready server."""
    return self._listens(1)

  @property
  def http_address(self) -> str:
    """`http://host:port` of the HTTP front of a ready server."""
    return self._listens(2)

  def counters(self) -> dict[str, float]:
    """The server's totals, such as `requests_completed`, `prompt_tokens`, `completion_tokens`.

    Raises:
      UserError: the server does not answer.
    """
    try:
      with urllib.request.urlopen(f"{self.http_address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    except (urllib.error.URLError, OSError) as error:
      raise self._unhealthy(f"does not answer ({error})") from None
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {sample.name.removeprefix("skymath_").removesuffix("_total"): sample.value for sample in samples}

  def stop(self, seconds: float = 10.0) -> None:
    """Asks it to end, and ends it where it takes longer than `seconds`."""
    if self.alive:
      self.process.terminate()
      try:
        self.process.wait(seconds)
      except subprocess.TimeoutExpired:
        self.process.kill()
    self.process.wait()
    self._reader.join(1.0)
    for pipe in (self.process.stdin, self.process.stdout):
      with contextlib.suppress(OSError):
        if pipe is not None:
          pipe.close()
