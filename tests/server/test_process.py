"""The server as a child process: one line on standard output, clear failures, no orphans."""

import os
import signal
import subprocess
import sys
import time

import pytest

from skymath_jax.errors import UserError
from skymath_jax.server.process import ServerProcess

SERVE = """
import sys
from skymath_jax.server.serve import serve, settings_of
from skymath_jax.testing.tokenizers import ByteTokenizer
from tests.support.serving import make_decoder
settings = settings_of(slots=4, max_length=32, steps_per_call=1, http_port=0, port=0)
serve(make_decoder(0), ByteTokenizer(), "tiny@0", *settings, exit_with_parent=True)
assert not [m for m in sys.modules if m.split(".")[0] in ("tensorflow", "seqio")]
"""
PARENT = """
import sys, time
from skymath_jax.server.process import ServerProcess
server = ServerProcess([sys.executable, "-c", sys.argv[1]])
server.wait_until_ready(300)
print(server.process.pid, flush=True)
time.sleep(600)
"""
STUB = """
import types
from skymath_jax.engine.types import EngineSettings
from skymath_jax.server import serve
from skymath_jax.server.settings import ServerSettings
settings = EngineSettings(slots=1, max_length=8, steps_per_call=1), ServerSettings()
serve.start = lambda *_, **__: types.SimpleNamespace(port=1, http_port=2, drain=lambda *_: None, stop=lambda: None)
serve.serve(None, None, "stub@0", *settings, exit_with_parent=True)
"""


def wait_gone(pid: int, seconds: float = 30.0) -> None:
  end = time.monotonic() + seconds
  while time.monotonic() < end:
    try:
      with open(f"/proc/{pid}/stat") as f:
        if f.read().rpartition(")")[2].split()[0] == "Z":
          return
    except FileNotFoundError:
      return
    time.sleep(0.05)
  os.kill(pid, signal.SIGKILL)
  raise AssertionError("the server outlived its parent")


def test_it_becomes_ready_counts_and_stops():
  with ServerProcess([sys.executable, "-c", SERVE]) as server:
    server.wait_until_ready(300)
    assert server.alive and server.address.startswith("127.0.0.1:")
    counters = server.counters()
    assert counters["requests_completed"] == 0 and counters["completion_tokens"] == 0
  assert server.process.returncode == 0
  text = server.log_path.read_text()
  assert len(text.splitlines()) == 1, text  # where it listens, and nothing of JetStream's chatter


def test_standard_output_is_the_one_line_ready_and_the_end_of_input_ends_it():
  command = [sys.executable, "-c", STUB]
  process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
  assert process.stdout.readline() == b"ready\n"
  process.stdin.close()
  assert process.wait(60) == 0
  assert process.stdout.read() == b""


def test_a_killed_parent_leaves_no_orphan():
  parent = subprocess.Popen([sys.executable, "-c", PARENT, STUB], stdout=subprocess.PIPE)
  pid = int(parent.stdout.readline())
  os.kill(parent.pid, signal.SIGKILL)
  parent.wait()
  wait_gone(pid)


def test_a_server_that_cannot_start_says_why():
  with pytest.raises(UserError, match=r"(?s)not healthy.*exit code 1.*port 8000: .* choose another port"):
    says = "import sys; sys.exit('port 8000: another program uses it. choose another port')"
    ServerProcess([sys.executable, "-c", says]).wait_until_ready(300)


def test_a_server_that_takes_too_long_is_ended():
  server = ServerProcess([sys.executable, "-c", "import sys, time; print('loading', file=sys.stderr); time.sleep(600)"])
  with pytest.raises(UserError, match=r"(?s)took more than 1 s.*start_seconds"):
    server.wait_until_ready(1)
  assert not server.alive
  with pytest.raises(UserError, match="not healthy"):
    server.check()
