"""`kill -9` again and again over a run whose workdir is in a bucket, with two machines that both want it.

    skymath bench contended_kills --folder=FOLDER [--kills=50] [--seed=0]

The bucket is a folder behind gs:// (objects appear whole and are made only where there is none, as a bucket does it);
the two machines are processes with a host name and a local copy each; the teacher is one server that counts what it is
asked. Whoever owns the workdir is killed after a random time; by lot it is started again at once, or stays away until
the other one has taken over. The run beside it is killed never; its result is kept in FOLDER. Leases last seconds here.

Paid twice is an answer that a machine had stored and gone on with when it was killed, and that is not the one in the
end. What was on its way from the teacher to the bucket at a kill is asked again by whoever goes on, and told apart.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from etils import epath
from fsspec.implementations.local import LocalFileSystem

from skymath_jax import lease, mirror
from skymath_jax.cli import bench, main, shipped
from skymath_jax.recipe.workdir import Workdir
from skymath_jax.server.process import ServerProcess
from skymath_jax.synthesis.store import ResponseStore, StoredResponse

HOSTS = ("left", "right")
WORDS = (
  "--config.seeds.limit=40", "--config.synthesis.coreset_size=20", "--config.training.stage1.epochs=1",
  "--config.training.stage2.epochs=1", "--config.training.checkpoint_every=2", "--config.evaluation.limit=40",
  "--config.serving.slots=32",
)  # fmt: skip
LEASE_SECONDS, RENEW_SECONDS, PUSH_SECONDS = 8.0, 1.0, 20.0
TOLD = ".told"  # ends the name of a machine's list of the answers that it has gone on with
AGAIN_SECONDS = 5.0  # from one start of a machine's program to the next


class Bucket(LocalFileSystem):
  """gs://NAME/… as ROOT/NAME/…; an object is there whole or not at all."""

  protocol = ("gs", "gcs")
  root = Path()

  @classmethod
  def _strip_protocol(cls, path: Any) -> Any:
    if isinstance(path, list):
      return [cls._strip_protocol(part) for part in path]
    text = os.fspath(path)
    for name in cls.protocol:
      text = text.removeprefix(f"{name}://")
    return (text if text.startswith("/") else f"{cls.root}/{text}").rstrip("/")

  def cp_file(self, path1: str, path2: str, **_: Any) -> None:
    """Copies into the bucket or out of it."""
    source, target = Path(self._strip_protocol(path1)), Path(self._strip_protocol(path2))
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.parent / f".{secrets.token_hex(6)}.tmp"
    shutil.copyfile(source, new)
    new.replace(target)

  def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
    """Writes an object, with `create` only where there is none."""
    target = Path(self._strip_protocol(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.parent / f".{secrets.token_hex(6)}.tmp"
    new.write_bytes(value)
    try:
      os.link(new, target) if mode == "create" else new.replace(target)
    finally:
      new.unlink(missing_ok=True)


def owner(root: str, host: str, *words: str) -> None:
  """In a process of its own: `skymath WORDS` on the machine `host`, whose gs:// is the folder `root`."""
  Bucket.root = Path(root)
  for name in Bucket.protocol:
    fsspec.register_implementation(name, Bucket, clobber=True)
  socket.gethostname = lambda: host
  lease.LEASE_SECONDS, lease.RENEW_SECONDS, lease.SETTLE_SECONDS = LEASE_SECONDS, RENEW_SECONDS, 0.5
  mirror.PUSH_SECONDS = PUSH_SECONDS
  opened, completed = Workdir.__init__, Workdir.complete

  def with_checkpoints(self: Workdir, where: epath.PathLike) -> None:
    opened(self, where)  # what reads and writes arrays takes no stand-in for gs://
    self.checkpoints = epath.Path(f"{root}/{os.fspath(where).removeprefix('gs://')}/checkpoints")

  def with_metrics(self: Workdir, folder: str, facts: dict[str, Any]) -> dict[str, Any]:
    found = completed(self, folder, facts)
    if folder.startswith("checkpoints/"):
      self.pull(folder)  # of a checkpoint in gs:// the local copy has them from the start
    return found

  put = ResponseStore.put_async
  told = (Path(root) / f"{host}{TOLD}").open("a", buffering=1)

  async def with_telling(self: ResponseStore, response: StoredResponse) -> StoredResponse:
    stored = await put(self, response)
    print(stored.key, stored.stored_at, file=told)
    return stored

  ResponseStore.put_async = with_telling  # type: ignore[method-assign]
  Workdir.__init__, Workdir.complete = with_checkpoints, with_metrics  # type: ignore[method-assign]
  main.main(words)


class Machine:
  """One of those that want the workdir."""

  def __init__(self, folder: Path, host: str, workdir: str, teacher: str):
    self.host, self.log = host, folder / f"{workdir}-{host}.log"
    words = ["run", f"--config={shipped.folder('configs') / 'quickstart.py'}", f"--workdir=gs://bucket/{workdir}"]
    words += [*WORDS, f"--config.teacher.addresses=('{teacher}',)"]
    self._command = bench.in_child("contended_kills", "owner", str(folder), host, *words)
    scratch = {"SKYMATH_SCRATCH": str(folder / "scratch" / host), "JAX_COMPILATION_CACHE_DIR": str(folder / "xla")}
    self._environment = {**os.environ, "EPATH_USE_TF": "0", **scratch}
    self.process: subprocess.Popen[bytes] | None = None
    self._started = 0.0

  def start(self) -> None:
    """Starts it, unless it runs or was started a moment ago."""
    if (self.process is None or self.process.poll() is not None) and time.monotonic() > self._started + AGAIN_SECONDS:
      self._started = time.monotonic()
      with self.log.open("ab") as told:
        self.process = subprocess.Popen(
          self._command, env=self._environment, stdout=told, stderr=told, start_new_session=True
        )

  def kill(self) -> None:
    """SIGKILL to all that it started."""
    if self.process is not None and self.process.poll() is None:
      os.killpg(self.process.pid, signal.SIGKILL)
      self.process.wait()


def outcome(workdir: Path) -> dict[str, str]:
  """What a run has made: a hash for each part of its data, its models, and the accuracies."""
  parts = {name: sorted(workdir.glob(name)) for name in ("synthesis/*/instances.jsonl", "sft/*/kept.jsonl")}
  parts["export/*.safetensors"] = sorted(workdir.rglob("export*/**/*.safetensors"))
  found = {
    name: hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()
    for name, paths in parts.items()
  }
  return found | {"accuracy": json.dumps(json.loads((workdir / "summary.json").read_text())["accuracy"])}


def undisturbed(folder: Path, teacher: ServerProcess) -> dict[str, Any]:
  """The result of a run that nobody kills, and how many answers the teacher gave."""
  path = folder / "undisturbed.json"
  if not path.exists():
    before = teacher.counters()["requests_completed"]
    machine = Machine(folder, "alone", "undisturbed", teacher.address)
    machine.start()
    assert machine.process is not None
    if machine.process.wait():
      raise RuntimeError(f"the undisturbed run failed: {machine.log.read_text()[-2000:]}")
    answers = teacher.counters()["requests_completed"] - before
    path.write_text(json.dumps({"result": outcome(folder / "bucket" / "undisturbed"), "answers": answers}))
  return dict(json.loads(path.read_text()))


def owned_by(workdir: Path) -> str:
  """The host in the lease; empty without one."""
  try:
    return str(json.loads((workdir / lease.OWNER).read_text())["host"])
  except (OSError, ValueError, KeyError):
    return ""


def answers_in(workdir: Path) -> dict[str, float]:
  """Key → time of storing, of the answers in a workdir that nobody works in."""
  found: dict[str, float] = {}
  for path in workdir.glob("synthesis/stage*/responses.sqlite"):
    with contextlib.closing(sqlite3.connect(path)) as database:
      found |= dict(database.execute("SELECT key, stored_at FROM responses"))
  return found


def gone_on_with(folder: Path) -> dict[str, float]:
  """The same of the answers that any machine has told to be stored, whatever became of it."""
  lines = [line.split() for host in HOSTS for line in (folder / f"{host}{TOLD}").read_text().splitlines()]
  return {line[0]: float(line[1]) for line in reversed(lines) if len(line) == 2}


def contended(folder: Path, teacher: ServerProcess, kills: int, rng: random.Random) -> dict[str, Any]:
  """Two machines, `kills` kills; what came out and what it took."""
  workdir = folder / "bucket" / "contended"
  for path in (workdir, *(folder / "scratch" / host for host in HOSTS)):
    shutil.rmtree(path, ignore_errors=True)
  for host in HOSTS:
    (folder / f"{host}{TOLD}").unlink(missing_ok=True)
  machines = {host: Machine(folder, host, "contended", teacher.address) for host in HOSTS}
  for machine in machines.values():
    machine.log.unlink(missing_ok=True)
  before, killed, owners, away = teacher.counters()["requests_completed"], 0, [""], ""
  strike = time.monotonic() + rng.uniform(5, 30)
  while not (workdir / "summary.json").exists() or owned_by(workdir):
    for host, machine in machines.items():
      if host != away:
        machine.start()
    now = owned_by(workdir)
    if now and now != owners[-1]:
      owners.append(now)
      away = "" if now != away else away
    if now and killed < kills and time.monotonic() > strike:
      machines[now].kill()
      killed += 1
      away = now if rng.random() < 0.3 else ""
      strike = time.monotonic() + rng.uniform(5, 30)
    time.sleep(0.2)
  for machine in machines.values():
    machine.kill()
  answers = teacher.counters()["requests_completed"] - before
  text = "".join(machine.log.read_text(errors="replace") for machine in machines.values())
  last, stored = answers_in(workdir), gone_on_with(folder)
  return {
    "paid_twice": sum(last.get(key) != when for key, when in stored.items()), "stored": len(stored),
    "result": outcome(workdir), "answers": answers, "kills": killed, "owners": len(owners) - 1,
    "refused": text.count("works here"), "tracebacks": text.count("Traceback"),
  }  # fmt: skip


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """Rows: kills survived, parts of the result that differ, answers that were paid twice."""
  parser = argparse.ArgumentParser("skymath bench contended_kills")
  parser.add_argument("--folder", type=Path, required=True)
  parser.add_argument("--kills", type=int, default=50)
  parser.add_argument("--seed", type=int, default=0)
  chosen = parser.parse_args(arguments)
  folder = chosen.folder.resolve()
  folder.mkdir(parents=True, exist_ok=True)
  serve = [sys.executable, "-m", "skymath_jax.cli", "serve", "--model=asset:micro_teacher", "--port=0"]
  with ServerProcess([*serve, "--slots=64", "--max_length=384", "--exit_with_parent"]) as teacher:
    teacher.wait_until_ready(600)
    alone = undisturbed(folder, teacher)
    found = contended(folder, teacher, chosen.kills, random.Random(chosen.seed))
  differ = [name for name, value in alone["result"].items() if found["result"].get(name) != value]
  settings = {key: found[key] for key in ("owners", "refused", "tracebacks")} | {"push_seconds": PUSH_SECONDS}
  yield {"name": "contended_kills", "value": found["kills"], "unit": "kills survived", "settings": settings}
  yield {"name": "contended_kills.differ", "value": len(differ), "unit": "parts", "settings": {"parts": differ}}
  yield {
    "name": "contended_kills.paid_twice",
    "value": found["paid_twice"],
    "unit": "answers",
    "settings": {
      "answers": alone["answers"], "gone_on_with": found["stored"],
      "on_their_way_at_a_kill": found["answers"] - alone["answers"] - found["paid_twice"],
    },
  }  # fmt: skip
