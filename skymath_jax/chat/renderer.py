"""The process that renders chat templates (`sandbox`), as a function: started when first needed, anew when ended."""

import atexit
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from skymath_jax.generation import RequestRejected

PROGRAM = Path(__file__).with_name("sandbox.py")
KNOWN = ("PYTHONPATH", "LD_LIBRARY_PATH", "TZ")  # of the environment; it needs to know no secrets
PATIENCE = 60.0  # seconds on the clock, should the process not end itself: a busy machine gives it few of them
ENDED = "it computes for more than 2 seconds or takes too much memory"


class Renderer:
  """One at a time asks; safe for threads, and for processes that were forked from this one."""

  def __init__(self) -> None:
    self.forget()

  def forget(self) -> None:
    """Leaves the process to whoever started it."""
    self._lock = threading.Lock()
    self._process: subprocess.Popen[bytes] | None = None

  def ask(self, **request: Any) -> dict[str, Any]:
    """The answer of the program in `sandbox` to a request.

    Raises:
      RequestRejected: the template is at fault, or the messages are.
    """
    try:
      line = json.dumps(request).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
      raise RequestRejected(f"messages must be JSON values ({error})", where="messages") from None
    with self._lock:
      process = self._started()
      assert process.stdin is not None and process.stdout is not None
      watch = threading.Timer(PATIENCE, process.kill)
      watch.daemon = True
      watch.start()
      try:
        process.stdin.write(line)
        process.stdin.flush()
        said = process.stdout.readline()
      except BrokenPipeError:
        said = b""
      finally:
        watch.cancel()
      told: dict[str, Any] = json.loads(said) if said.endswith(b"\n") else {"error": ENDED, "last": True}
      if "last" in told:
        self.close()
    if "error" in told:
      raise RequestRejected(f"the chat template refuses these messages ({told['error']})", where="messages")
    return told

  @property
  def pid(self) -> int | None:
    """Of the process; None where there is none."""
    return None if self._process is None else self._process.pid

  def close(self) -> None:
    """Ends the process, if there is one."""
    if self._process is not None:
      self._process.kill()
      self._process.communicate()
    self._process = None

  def _started(self) -> "subprocess.Popen[bytes]":
    if self._process is None or self._process.poll() is not None:
      self.close()
      environment = {name: os.environ[name] for name in KNOWN if name in os.environ}
      self._process = subprocess.Popen(
        [sys.executable, "-P", os.fspath(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C is for its parent
      )
    return self._process


RENDERER = Renderer()
atexit.register(RENDERER.close)
os.register_at_fork(after_in_child=RENDERER.forget)
