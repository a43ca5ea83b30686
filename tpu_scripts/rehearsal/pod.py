"""A pod without a cloud: several hosts on this machine do the real thing, one of them dies, and nothing is lost.

    python tpu_scripts/rehearsal/pod.py train [FOLDER]        four hosts, one jax.distributed job; host 2 is killed
    python tpu_scripts/rehearsal/pod.py synthesize [FOLDER]   three JetStream replicas, one client; a replica is killed

Prints one JSON line: what was counted, how long it took. Needs root for network namespaces (iproute2); without it the
hosts are process groups on loopback addresses. Run it with this repository's Python.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hosts import Hosts

ROOT = Path(__file__).parents[2]
SKYMATH = [sys.executable, "-m", "skymath_jax.cli"]
TRAINING = (  # a model of 60 thousand parameters, from scratch, on the micro world's text
  "--config.training.data=micro_gsm/base", "--config.training.examples=120", "--config.model.path=",
  "--config.model.tokenizer=asset:micro_teacher", "--config.model.scratch.embed=32",
  "--config.model.scratch.layers=1", "--config.model.scratch.heads=2", "--config.model.scratch.kv_heads=1",
  "--config.model.scratch.mlp=64", "--config.training.template=raw", "--config.training.rows=4",
  "--config.training.checkpoint_every=2", "--config.training.stage1.epochs=2",
)  # fmt: skip
EVALUATION = ("--config.evaluation.models=('stage1',)", "--config.evaluation.limit=10", "--config.serving.slots=4",
              "--config.evaluation.max_tokens=32")  # fmt: skip
SYNTHESIS = ("--config.seeds.limit=12", "--config.synthesis.coreset_size=4", "--config.serving.slots=8",
             "--config.teacher.concurrency=24")  # fmt: skip


def command(verb: str, workdir: Path, *more: str) -> list[str]:
  return [*SKYMATH, verb, f"--config={ROOT / 'configs' / 'quickstart.py'}", f"--workdir={workdir}", *more]


def wait_for(what: str, ready: Callable[[], bool], processes: Sequence[subprocess.Popen], logs: Path) -> None:
  limit = time.monotonic() + 900
  while not ready():
    ended = [p for p in processes if p.poll() is not None]
    if ended or time.monotonic() > limit:
      tails = "\n".join(f"{path}:\n{path.read_text()[-1500:]}" for path in sorted(logs.glob("*.log")))
      raise SystemExit(f"no {what}: {'a process ended' if ended else 'too slow'}\n{tails}")
    time.sleep(0.02)


def rows(path: Path) -> list[dict]:
  lines = path.read_text().splitlines(keepends=True) if path.exists() else []
  return [json.loads(line) for line in lines if line.endswith("\n")]


def ended(processes: Sequence[subprocess.Popen], logs: Path) -> list[int]:
  codes = [process.wait(900) for process in processes]
  if any(codes):
    tails = "\n".join(f"{path}:\n{path.read_text()[-1500:]}" for path in sorted(logs.glob("*.log")))
    raise SystemExit(f"exit codes {codes}\n{tails}")
  return codes


def environment(folder: Path) -> dict[str, str]:
  cache = os.environ["JAX_COMPILATION_CACHE_DIR"] if "JAX_COMPILATION_CACHE_DIR" in os.environ else str(folder / "xla")
  return {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": cache}


def train(folder: Path) -> dict:
  """Four hosts train; host 2 is killed after the first checkpoint; all are started again; then they evaluate."""
  alone, together, own = folder / "alone", folder / "together", environment(folder)
  subprocess.run(command("train", alone, *TRAINING, *EVALUATION), env={**os.environ, **own}, check=True)
  (folder / "logs").mkdir()
  steps = together / "checkpoints" / "stage1" / "steps"
  with Hosts(4) as hosts:
    job = dict(logs=folder / "logs", **own)
    processes = hosts.job(command("train", together, *TRAINING, *EVALUATION), port=7001, **job)
    wait_for("checkpoint", lambda: (steps / "2").exists(), processes, folder / "logs")
    hosts.kill(processes[2])
    start = time.monotonic()
    codes = [process.wait(300) for process in processes]
    noticed, saved = time.monotonic() - start, sorted(int(p.name) for p in steps.iterdir() if p.name.isdigit())
    start = time.monotonic()
    ended(hosts.job(command("train", together, *TRAINING, *EVALUATION), port=7002, **job), folder / "logs")
    resumed = time.monotonic() - start
    ended(hosts.job(command("evaluate", together, *TRAINING, *EVALUATION), port=7003, **job), folder / "logs")
    namespaces = hosts.namespaces
  logs = "".join(path.read_text() for path in (folder / "logs").glob("host0.log"))
  curves = [rows(w / "checkpoints" / "stage1" / "metrics.jsonl") for w in (alone, together)]
  evaluation = together / "evaluation" / "stage1"
  shares = {p.parent.name: len(rows(p)) for p in sorted(evaluation.glob("processes/*/predictions.jsonl"))}
  return {
    "name": "rehearsal train",
    "hosts": 4,
    "network_namespaces": namespaces,
    "exit_codes_after_the_kill": codes,
    "seconds_until_all_had_ended": round(noticed, 1),
    "checkpoints_at_the_kill": saved,
    "resumed_after_step": [
      int(line.split()[3]) for line in logs.splitlines() if line.startswith("resuming after step")
    ],
    "seconds_of_the_second_start": round(resumed, 1),
    "steps": [row["step"] for row in curves[1]] == list(range(1, len(curves[0]) + 1)) and len(curves[0]),
    "largest_loss_difference_to_one_process": max(abs(a["loss"] - b["loss"]) for a, b in zip(*curves, strict=True)),
    "predictions": len({row["id"] for row in rows(evaluation / "predictions.jsonl")}),
    "predictions_by_process": shares,
  }


def stored(workdir: Path, what: str = "count(*)") -> int:
  path = workdir / "synthesis" / "stage1" / "responses.sqlite"
  try:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
      return db.execute(f"SELECT {what} FROM responses").fetchone()[0]
  except sqlite3.OperationalError:
    return 0


def synthesize(folder: Path) -> dict:
  """Three replicas serve one synthesis; one is killed when a third is stored; the instances are as with one."""
  alone, together, own = folder / "alone", folder / "together", environment(folder)
  subprocess.run(command("synthesize", alone, *SYNTHESIS), env={**os.environ, **own}, check=True)
  (folder / "logs").mkdir()
  with Hosts(4) as hosts:
    serve = [*SKYMATH, "serve", "--model=asset:micro_teacher", "--slots=8", "--max_length=384", "--port=9000"]
    serve += ["--steps_per_call=16", "--allow_remote", "--without_token"]
    logs = [folder / "logs" / f"replica{host}.log" for host in (1, 2, 3)]
    replicas = [
      hosts.start(host, [*serve, f"--host={hosts.addresses[host]}"], log=log, **own)
      for host, log in zip((1, 2, 3), logs, strict=True)
    ]
    ready = lambda: all(log.exists() and "\nready\n" in "\n" + log.read_text() for log in logs)  # noqa: E731
    wait_for("replicas", ready, replicas, folder / "logs")
    (folder / "replicas").write_text("".join(f"{address}:9000\n" for address in hosts.addresses[1:]))
    listed = f"--config.teacher.addresses=('@{folder / 'replicas'}',)"
    client = hosts.start(
      0, command("synthesize", together, *SYNTHESIS, listed), log=folder / "logs" / "client.log", **own
    )
    third = stored(alone) // 3
    wait_for("answers", lambda: stored(together) >= third, [client], folder / "logs")
    at_the_kill = stored(together)
    hosts.kill(replicas[1])
    start = time.monotonic()
    ended([client], folder / "logs")
    seconds, namespaces = time.monotonic() - start, hosts.namespaces
  files = [f"synthesis/{stage}/instances.jsonl" for stage in ("stage1", "stage2")]
  passes = json.loads((together / "synthesis" / "stage1" / "summary.json").read_text())["passes"]
  return {
    "name": "rehearsal synthesize",
    "replicas": 3,
    "network_namespaces": namespaces,
    "stored_when_one_was_killed": at_the_kill,
    "stored": stored(together),
    "distinct": stored(together, "count(DISTINCT key)"),
    "stored_with_one_replica": stored(alone),
    "failed": sum(p["requests"]["failed"] for p in passes),
    "same_instances": all((alone / f).read_bytes() == (together / f).read_bytes() for f in files),
    "seconds_after_the_kill": round(seconds, 1),
  }


if __name__ == "__main__":
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the hosts and their network go
  where = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="skymath-rehearsal-")).resolve()
  where.mkdir(parents=True, exist_ok=True)
  print(json.dumps({"train": train, "synthesize": synthesize}[sys.argv[1]](where)))
