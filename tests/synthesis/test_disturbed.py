"""Servers and clients are killed while a pass runs: nothing is lost, and only what was in flight is paid for twice.

The small version runs in the fast suite; the large one (20,000 requests, server killed 5 times, client killed 10
times, two clients at once for a while) is slow.
"""

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from skymath_jax import files
from skymath_jax.generation.openai import OpenAIGenerator
from skymath_jax.generation.parameters import Parameters
from skymath_jax.generation.types import Sampling
from skymath_jax.problems import catalog
from skymath_jax.synthesis import ResponseStore, synthesize
from tests.support import micro_teacher
from tests.support.synthesis import SETTINGS

ROOT = Path(__file__).parents[2]
CONCURRENCY = 48
RUNS = {
  "answer_augmentation": 6.0, "rephrase": 4.0, "self_verification": 4.0, "fobar": 4.0, "evol": 1.0, "xwin": 5.0
}  # fmt: skip
SAMPLING = Sampling(temperature=0.7, max_tokens=256)
ANSWERED = {*micro_teacher.KINDS, "good"} - {"refused"}


def make(path, teacher, problems: int):
  """One pass into the store at `path`."""

  async def main(store):
    try:
      return await synthesize(
        catalog.load("micro_gsm")[:problems], RUNS, teacher, store,
        stage=1, sampling=SAMPLING, rng_seed=3, concurrency=CONCURRENCY, max_rejected=1.0,
        settings=dataclasses.replace(SETTINGS, evol_steps=5),
      )  # fmt: skip
    finally:
      if isinstance(teacher, OpenAIGenerator):
        await teacher.close()

  with ResponseStore(path) as store:
    return asyncio.run(main(store))


def client(path: str, port: int, problems: int) -> None:
  """The process that gets killed; its summary is the last thing it writes."""
  teacher = OpenAIGenerator(
    f"http://127.0.0.1:{port}/v1",
    "scripted",
    concurrency=CONCURRENCY,
    chat=True,
    first_pause=0.02,
    parameters=Parameters(attempts=40, seconds=20),
  )
  result = make(path, teacher, problems)
  files.write_json(f"{path}.{os.getpid()}.json", result.summary())


def contents(path) -> dict[str, tuple]:
  """Key → all that is stored but the times."""
  with ResponseStore(path) as store:
    return {
      r.key: (r.problem_id, r.method, r.prompt, r.teacher, r.sampling, r.text, r.finish_reason, r.completion_tokens)
      for r in store
    }


class Disturbance:
  """Starts and kills servers and clients on one store, and remembers what was in flight at each kill."""

  def __init__(self, folder, problems: int, *, seconds: float):
    self.store, self.log, self.problems, self.seconds = folder / "r.sqlite", folder / "log", problems, seconds
    with socket.socket() as free:
      free.bind(("127.0.0.1", 0))
      self.port = free.getsockname()[1]
    self.env = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "TERM": "dumb"}
    self.lost: list[set[str]] = []  # per kill: has reached the server, and is not in the store
    self.processes: list[subprocess.Popen] = []
    self.log.touch()
    self.server = self.start_server()

  def start_server(self) -> subprocess.Popen:
    command = [
      sys.executable,
      "-m",
      "tests.support.micro_teacher",
      str(self.port),
      str(self.log),
      str(self.seconds),
      "0.06",
    ]
    self.processes.append(subprocess.Popen(command, env=self.env))
    return self.processes[-1]

  def start_client(self) -> subprocess.Popen:
    code = "import sys; from tests.synthesis.test_disturbed import client; client(sys.argv[1], *map(int, sys.argv[2:]))"
    command = [sys.executable, "-c", code, str(self.store), str(self.port), str(self.problems)]
    self.processes.append(subprocess.Popen(command, env=self.env, stderr=subprocess.DEVNULL))
    return self.processes[-1]

  def answers(self) -> list[tuple[str, str]]:
    """(key, "asked" or what became of it) as the server noted it, oldest first."""
    return [tuple(line.split(" ", 2)[1:]) for line in self.log.read_text().splitlines()]

  def wait_for(self, answered: int) -> None:
    done, since = -1, time.monotonic()
    while done < answered:
      now = len({key for key, kind in self.answers() if kind in ANSWERED})
      if now > done:
        done, since = now, time.monotonic()
      assert time.monotonic() - since < 240, f"no progress after {done} answers"
      time.sleep(0.1 + answered / 20_000)

  def kill(self, process: subprocess.Popen) -> None:
    if process is not self.server:
      process.send_signal(signal.SIGSTOP)
      self.await_server()  # else what it has sent and a busy server has not read yet would not count as in flight
    killed = time.time()
    process.send_signal(signal.SIGKILL)
    process.wait()
    answers = self.answers()
    arrived = {key for key, kind in answers if kind == "asked"} - {key for key, kind in answers if kind == "refused"}
    self.lost.append(arrived - self.stored(killed))

  def await_server(self) -> None:
    """Returns when the server has answered once more, behind all that was sent to it before, or is not up at all."""
    with contextlib.suppress(OSError):  # 404, too
      urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=60).close()

  def stored(self, killed: float) -> set[str]:
    """What was asked before `killed` and is stored: a living client may have asked and stored the dead one's since."""
    with ResponseStore(self.store) as store:
      return {micro_teacher.key_of(r.prompt, _seed(r.sampling)) for r in store if r.asked_at < killed}

  def stop(self) -> None:
    for process in self.processes:
      process.kill()
      process.wait()


def _seed(sampling: str) -> int:
  return int(sampling.partition('"seed": ')[2].partition(",")[0])


@pytest.fixture
def disturbance(request, tmp_path):
  running = Disturbance(tmp_path, *request.param[:1], seconds=request.param[1])
  yield running
  running.stop()


# problems, seconds an answer takes; the events, in order: c kills the first client and starts another, s the server,
# 2 starts a second client, 1 kills it. They are spread evenly over the work.
SMALL = ((24, 0.03), "c2s1c")
LARGE = ((480, 0.05), "cscc2scs1ccsc2c1csc")


@pytest.mark.parametrize(
  ("disturbance", "events"),
  [
    pytest.param(*SMALL, id="small"),
    pytest.param(*LARGE, id="large", marks=[pytest.mark.slow, pytest.mark.timeout(5400)]),
  ],
  indirect=["disturbance"],
)
def test_kills_change_nothing_and_cost_only_what_was_in_flight(disturbance, events, tmp_path, capsys):
  undisturbed = micro_teacher.Undisturbed()
  expected = make(tmp_path / "undisturbed.sqlite", undisturbed, disturbance.problems)
  whole = expected.requests["sent"]
  first, second = disturbance.start_client(), None
  for number, event in enumerate(events, start=1):
    disturbance.wait_for(number * whole * 9 // 10 // len(events))
    if event == "2":
      second = disturbance.start_client()
      time.sleep(2)  # until it is up and takes its share
    elif event == "s":
      disturbance.kill(disturbance.server)
      disturbance.server = disturbance.start_server()
    else:
      disturbance.kill(second if event == "1" else first)
      first = first if event == "1" else disturbance.start_client()
  assert first.wait(timeout=3000) == 0
  summary = files.read_json(f"{disturbance.store}.{first.pid}.json")

  answered = Counter(key for key, kind in disturbance.answers() if kind in ANSWERED)
  twice = {key for key, count in answered.items() if count > 1}
  in_flight = set().union(*disturbance.lost)
  assert contents(disturbance.store) == contents(tmp_path / "undisturbed.sqlite")
  assert twice <= in_flight
  assert sum(answered.values()) - len(answered) <= sum(map(len, disturbance.lost))
  assert all(len(lost) <= 2 * CONCURRENCY for lost in disturbance.lost)

  again = make(disturbance.store, refusing(undisturbed.model_id), disturbance.problems)  # replays, asks the refused
  assert again.instances == expected.instances
  assert summary["instances"] == len(expected.instances) and summary["requests"]["asked"] == whole
  assert summary["rejected"] == expected.summary()["rejected"] == again.summary()["rejected"]
  assert {"truncated", "no_answer_line", "error"} <= set(summary["rejected"])
  kinds = Counter(kind for _, kind in disturbance.answers())
  assert set(micro_teacher.CHANCES) | ANSWERED | {"refused"} <= set(kinds)  # each kind of trouble did occur
  with capsys.disabled():
    print(
      f"\n{whole:,} requests, {events.count('s')} server kills, {len(events) - events.count('s') - events.count('2')} "
      f"client kills: {len(twice)} answered twice, {len(in_flight)} were in flight at a kill; "
      f"{len(contents(disturbance.store)):,} rows as undisturbed; attempts by kind {dict(sorted(kinds.items()))}; "
      f"rejected {summary['rejected']}"
    )


def refusing(model_id: str) -> micro_teacher.Undisturbed:
  """A teacher that may only be asked what it refuses."""
  teacher = micro_teacher.Undisturbed(model_id)
  complete = teacher.complete

  async def only_refuse(request):
    assert micro_teacher.kind_of(request.prompt, request.sampling.seed) == "refused"
    return await complete(request)

  teacher.complete = only_refuse
  return teacher


def test_two_clients_share_the_work(tmp_path):
  """Side by side from the start: each answers a part, and no request is answered twice."""
  running = Disturbance(tmp_path, 8, seconds=0.2)
  try:
    clients = [running.start_client() for _ in range(2)]
    assert [process.wait(timeout=120) for process in clients] == [0, 0]
    summaries = [files.read_json(f"{running.store}.{process.pid}.json") for process in clients]
  finally:
    running.stop()
  answered = Counter(key for key, kind in running.answers() if kind in ANSWERED)
  assert set(answered.values()) == {1}
  assert summaries[0]["instances"] == summaries[1]["instances"] and summaries[0]["rejected"] == summaries[1]["rejected"]
  sent = [summary["requests"]["sent"] - summary["requests"]["failed"] for summary in summaries]
  assert sum(sent) == len(answered) and min(sent) > 0
