"""Faults that were found once, each as one small case: what happened then, what happens now.

    skymath bench faults [--only=3.6]

A row for each fault, `value` 1 where it is mended. Takes a minute; needs no model and no network. The server is a real
one over an engine that computes nothing, in a process of its own. What takes hours to show has benches of its own:
`bit_rot`, `malformed_files`, `serving_fuzz`, `contended_kills`.
"""

import argparse
import contextlib
import http.client
import json
import os
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import grpc
from jetstream.core.proto import jetstream_pb2, jetstream_pb2_grpc

from skymath_jax import chat, files, integrity, models
from skymath_jax.cli import bench
from skymath_jax.errors import UserError
from skymath_jax.generation import completion
from skymath_jax.generation.redact import redacted
from skymath_jax.generation.types import Request
from skymath_jax.lease import Lease
from skymath_jax.mirror import Mirror
from skymath_jax.server import incoming
from skymath_jax.server import settings as server_settings
from skymath_jax.server.serve import start_engine
from skymath_jax.server.settings import ServerSettings
from skymath_jax.synthesis.methods import masking
from skymath_jax.testing.null_engine import NullEngine, NullSlots
from skymath_jax.testing.tokenizers import CodePointTokenizer
from skymath_jax.training import metrics

TOKEN = "a-token-that-nobody-should-see-0123456789"
IDLE_SECONDS = 3.0  # of the server here; twenty in earnest


class Now(NamedTuple):
  """What happens now, and whether that is right."""

  says: str
  right: bool


class Server:
  """A server in a process of its own."""

  def __init__(self) -> None:
    command = bench.in_child("faults", "serve_null")
    self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert self._process.stdout is not None
    self.port, self.http_port = map(int, self._process.stdout.readline().split())
    self.stub = jetstream_pb2_grpc.OrchestratorStub(grpc.insecure_channel(f"127.0.0.1:{self.port}"))
    self.metadata = (("authorization", f"Bearer {TOKEN}"),)

  def post(self, body: bytes, **headers: str | bytes) -> tuple[int, bytes]:
    """Status and body of a completion."""
    connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)
    try:
      sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", **headers}
      connection.request("POST", "/v1/completions", body, sent)
      answer = connection.getresponse()
      return answer.status, answer.read()
    finally:
      connection.close()

  def health(self, meanwhile: Callable[[], object]) -> tuple[float, int]:
    """(p99, number) of calls of /health while `meanwhile` runs in another thread; milliseconds."""
    thread, taken = threading.Thread(target=meanwhile), list[float]()
    thread.start()
    while thread.is_alive() or len(taken) < 20:
      start = time.perf_counter()
      connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)
      connection.request("GET", "/health")
      connection.getresponse().read()
      connection.close()
      taken.append(1000 * (time.perf_counter() - start))
      time.sleep(0.005)
    return sorted(taken)[int(0.99 * (len(taken) - 1))], len(taken)

  def stop(self) -> None:
    """Ends it."""
    self._process.kill()
    self._process.wait()


def serve_null() -> None:
  """In a process of its own: serves until it is killed."""
  incoming.IDLE_SECONDS = IDLE_SECONDS
  slots = NullSlots(16, steps_per_call=8, step_seconds=0.002)
  server = start_engine(NullEngine(), slots, CodePointTokenizer(), "null@0", ServerSettings(port=0, token=TOKEN))
  print(server.port, server.http_port, flush=True)
  threading.Event().wait()


def child(*words: str) -> None:
  """In a process of its own, so that making the request keeps no caller waiting: a large prompt over gRPC."""
  kind, port = words
  content: dict[str, Any] = {"token_content": {"token_ids": [1] * 3_000_000}}
  if kind == "text":
    content = {"text_content": {"text": "x " * 2_000_000}}
  stub = jetstream_pb2_grpc.OrchestratorStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
  message = jetstream_pb2.DecodeRequest(max_tokens=1, **content)
  for _ in range(5):
    with contextlib.suppress(grpc.RpcError):
      list(stub.Decode(message, metadata=(("authorization", f"Bearer {TOKEN}"),)))


def large_prompts(server: Server, folder: Path) -> Now:
  """3.1"""
  del folder
  told = []

  def meanwhile() -> None:
    for _ in range(4):
      told.append(server.post(b'{"prompt": "' + b"x " * 1_900_000 + b'"}')[0])
    for kind in ("text", "ids"):
      subprocess.run(bench.in_child("faults", "child", kind, str(server.port)), check=True)

  p99, count = server.health(meanwhile)
  return Now(f"HTTP {sorted(set(told))}, /health p99 {p99:.0f} ms of {count}", p99 <= 100 and set(told) <= {400, 413})


def strange_charset(server: Server, folder: Path) -> Now:
  """3.2"""
  del folder
  start = time.perf_counter()
  status, _ = server.post(b'"' + b"-" * 800_000 + b'"', **{"Content-Type": "application/json; charset=punycode"})
  seconds = time.perf_counter() - start
  return Now(f"HTTP {status} after {seconds:.2f} s", status == 415 and seconds < 1)


def removed_step(server: Server, folder: Path) -> Now:
  """3.3"""
  del server
  for step in ("2", "4"):
    files.write_text(folder / "stage" / "steps" / step / "arrays", step * 100)
  integrity.complete(folder / "stage", {"step": 4})
  complete = integrity.completion(folder / "stage") == {"step": 4}
  (folder / "stage" / "steps" / "4" / "arrays").unlink()
  found = integrity.completion(folder / "stage")
  return Now("not complete any more" if found is None else "still complete", complete and found is None)


def changed_digit(server: Server, folder: Path) -> Now:
  """3.4"""
  del server
  path = folder / "made" / "problems.jsonl"
  files.write_text(path, '{"answer": "41"}\n')
  integrity.complete(path.parent, {"output": "x"})
  before = path.stat()
  path.write_text('{"answer": "42"}\n')
  at_once = _refusal(lambda: integrity.completion(path.parent))
  os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
  integrity_of = integrity.damages(path.parent, contents=True)
  return Now(at_once, "problems.jsonl" in at_once and "remove" in at_once and "problems.jsonl" in integrity_of)


def two_owners(server: Server, folder: Path) -> Now:
  """3.5"""
  del server
  system = fsspec.filesystem("memory")
  Lease(system, "/bucket/run", "gs://bucket/run").acquire()
  name, socket.gethostname = socket.gethostname, lambda: "another-machine"
  try:
    second = Lease(system, "/bucket/run", "gs://bucket/run")
    said = _refusal(second.acquire)
  finally:
    socket.gethostname = name
  return Now(said, f"process {os.getpid()} on {name()} works here (since" in said)


def silent_connections(server: Server, folder: Path) -> Now:
  """3.6"""
  del folder
  silent = [socket.create_connection(("127.0.0.1", server.http_port)) for _ in range(200)]
  for connection in silent[::2]:
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-Half: ")
  p99, _ = server.health(lambda: time.sleep(IDLE_SECONDS + 3))
  closed = 0
  for connection in silent:
    connection.settimeout(0.01)
    with contextlib.suppress(TimeoutError, ConnectionError):
      closed += b"" in (connection.recv(1000), connection.recv(1000))
    connection.close()
  says = f"{closed} of 200 closed after {IDLE_SECONDS:.0f} s, /health p99 {p99:.0f} ms"
  return Now(says, closed == 200 and p99 < 100)


def absurd_usage(server: Server, folder: Path) -> Now:
  """3.7"""
  del server, folder
  request = Request(id="1", prompt="How many are 2 and 3, and why is it so?")
  choices = [{"message": {"content": "It is 5."}, "finish_reason": "stop"}]
  found = []
  for value in (-1, float("inf"), 10**30, None, "many", "9" * 5000):
    usage = {"prompt_tokens": value, "completion_tokens": value}
    answer = completion.response(request, {"choices": choices, "usage": usage}, answer_field="content")
    found.append((answer.prompt_tokens, answer.completion_tokens, answer.counted))
  good = all(0 < prompt < 100 and 0 < wrote < 100 and not counted for prompt, wrote, counted in found)
  return Now(f"estimated: {found[0][:2]} tokens", good)


def hostile_folder(server: Server, folder: Path) -> Now:
  """3.8"""
  del server
  told = []
  places = {"LICENSE": Path("/etc/passwd"), "config.json": None, "tokenizer.json": Path("/dev/zero")}
  for name, content in places.items():
    copy = folder / f"model-{name}"
    subprocess.run(["cp", "-r", str(models.resolve("asset:micro_base")), copy], check=True)
    (copy / name).unlink(missing_ok=True)
    (copy / name).symlink_to(content) if content else os.mkfifo(copy / name)
    told.append(_refusal(lambda copy=copy: models.load_any(copy)[1].save(folder / "out") or None))
  huge = folder / "huge"
  subprocess.run(["cp", "-r", str(models.resolve("asset:micro_base")), huge], check=True)
  config = json.loads((huge / "config.json").read_text())
  (huge / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**9}))
  told.append(_refusal(lambda: models.load_any(huge)))
  copied = [path for path in (folder / "out").rglob("*") if path.is_file() and b"root:" in path.read_bytes()]
  refused = sum(map(bool, told[1:]))
  return Now(f"{refused} of 3 refused, {len(copied)} copies of /etc/passwd", refused == 3 and not copied)


def names_with_dots(server: Server, folder: Path) -> Now:
  """3.9"""
  del server
  mirror = Mirror(folder / "unused")
  mirror.remote, mirror.local = True, folder / "local" / "run"
  system = fsspec.filesystem("memory")
  system.pipe_file("/evil/run/seeds/a", b"")
  listed, escape = system.ls, {"name": "/evil/run/../../escaped", "type": "file", "size": 1}
  system.ls = lambda path, detail=True: [*listed(path, detail=detail), escape]
  mirror.__dict__["_bucket"] = (system, "/evil/run")
  said = _refusal(lambda: mirror.pull(""))
  return Now(said, "outside" in said and not (folder / "escaped").exists())


def clock_steps_back(server: Server, folder: Path) -> Now:
  """3.10"""
  del server
  clock, real = [2_000_000_000.0], time.time
  time.time = lambda: clock[0]
  start = time.monotonic()
  try:
    with metrics.Writer(folder, step=0) as writer:
      for step in range(1, 100):
        writer.write({"step": step, "loss": 1.0})
        clock[0] -= 20 * 24 * 3600.0
  finally:
    time.time = real
  rows = len((folder / "metrics.jsonl").read_text().splitlines())
  return Now(f"{rows} of 99 rows in {time.monotonic() - start:.1f} s", rows == 99)


def without_token(server: Server, folder: Path) -> Now:
  """3.11"""
  del server
  said = _refusal(ServerSettings(host="0.0.0.0", allow_remote=True).check)
  kept, server_settings.TOKEN_FILE = server_settings.TOKEN_FILE, str(folder / "token")
  try:
    token = server_settings.made_token()
  finally:
    server_settings.TOKEN_FILE = kept
  mode = stat.S_IMODE((folder / "token").stat().st_mode)
  return Now(f"made: {len(token)} characters, {mode:o}; none: {said}", len(token) > 40 and mode == 0o600 and bool(said))


def one_token(server: Server, folder: Path) -> Now:
  """3.12"""
  del folder
  many = json.dumps({"prompt": "x" * 30, "max_tokens": 60, "n": 64}).encode()
  threads = [threading.Thread(target=server.post, args=(many,)) for _ in range(60)]
  for thread in threads:
    thread.start()
  time.sleep(1)
  start = time.perf_counter()
  status, _ = server.post(b'{"prompt": "y", "max_tokens": 1}')
  seconds, busy = time.perf_counter() - start, any(thread.is_alive() for thread in threads)
  for thread in threads:
    thread.join()
  return Now(f"HTTP {status} after {seconds:.2f} s", status == 200 and busy and seconds < 2)


def small_ones(server: Server, folder: Path) -> Now:
  """3.13"""
  del folder
  ids, _ = server.post(json.dumps({"prompt": [65] * 200, "max_tokens": 1}).encode())
  header, _ = server.post(b'{"prompt": "y"}', Authorization=b"Bearer \xff\xfe")
  start = time.perf_counter()
  masking.masks("^{" * 4000)
  seconds = time.perf_counter() - start
  shown = [cut for cut in range(len(TOKEN)) if TOKEN[:4] in redacted(f"key {TOKEN[:cut]}", [TOKEN])]
  said = f"200 ids: {ids}; header: {header}; masking {seconds:.2f} s; {len(shown)} cuts show a key"
  return Now(said, (ids, header) == (200, 401) and seconds < 0.5 and not shown)


def endless_template(server: Server, folder: Path) -> Now:
  """3.8, its template"""
  del server, folder
  start = time.perf_counter()
  source = "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'x' * 9999 }}{% endfor %}{% endfor %}"
  said = _refusal(lambda: chat.ChatTemplate(source, {}, "").render([{"role": "user", "content": "x"}]))
  return Now(f"{said[:60]} after {time.perf_counter() - start:.1f} s", bool(said))


def _refusal(work: Callable[[], object]) -> str:
  """What a refusal says; nothing where there is none."""
  try:
    work()
  except UserError as error:
    return str(error)
  return ""


# fault → (what happened at 6c02807, the case)
FAULTS: dict[str, tuple[str, Callable[[Server, Path], Now]]] = {
  "3.1": ("all stand still for 5–13 s", large_prompts),
  "3.2": ("29 s", strange_charset),
  "3.3": ("complete, skipped; other weights", removed_step),
  "3.4": ("unnoticed", changed_digit),
  "3.5": ("the later one wins", two_owners),
  "3.6": ("held for ever", silent_connections),
  "3.7": ("a traceback, or no ceiling", absurd_usage),
  "3.8": ("copied out, hangs, memory", hostile_folder),
  "3.8t": ("hangs", endless_template),
  "3.9": ("written outside", names_with_dots),
  "3.10": ("the writer dies, training hangs", clock_steps_back),
  "3.11": ("no word", without_token),
  "3.12": ("waits 30 s", one_token),
  "3.13": ("400; 500; 3 s; its beginning shown", small_ones),
}


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """A row a fault."""
  parser = argparse.ArgumentParser("skymath bench faults")
  parser.add_argument("--only", choices=FAULTS)
  chosen = parser.parse_args(arguments)
  server = Server()
  try:
    for name, (before, case) in FAULTS.items():
      if chosen.only in (None, name):
        with tempfile.TemporaryDirectory() as folder:
          now = case(server, Path(folder))
        facts = {"before": before, "now": now.says}
        yield {"name": f"faults.{name}", "value": int(now.right), "unit": "mended", "settings": facts}
  finally:
    server.stop()
