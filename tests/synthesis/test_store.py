import asyncio
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skymath_jax.errors import UserError
from skymath_jax.generation.types import Sampling
from skymath_jax.synthesis import ResponseStore, StoredResponse, claims
from skymath_jax.synthesis.store import request_key, sampling_json
from skymath_jax.synthesis.writer import GroupWriter

TESTS = str(Path(__file__).parents[2])


def row(key: str, text: str = "8 apples", **fields) -> StoredResponse:
  values = {
    "key": key, "problem_id": "p", "method": "metamath.rephrase", "prompt_name": "metamath/rephrase",
    "prompt_hash": "h", "prompt": "Tell …", "teacher": "t@0", "sampling": sampling_json(Sampling(seed=3)),
    "text": text, "finish_reason": "stop", "prompt_tokens": 5, "completion_tokens": 2, "asked_at": 1.5,
  }  # fmt: skip
  return StoredResponse(**{**values, **fields})


def fill(store, rows) -> None:
  async def main():
    await asyncio.gather(*map(store.put_async, rows))

  asyncio.run(main())


def test_a_row_comes_back_whole_after_reopening(tmp_path):
  path = tmp_path / "deep" / "responses.sqlite"
  text = "Mia\n— \U0001f34e “8”\x00 end"
  with ResponseStore(path) as store:
    assert store.get("a") is None
    stored = store.put(row("a", text))
    assert stored.stored_at == pytest.approx(time.time(), abs=60)
  with ResponseStore(path) as store:
    assert store.get("a") == stored == dataclasses.replace(row("a", text), stored_at=stored.stored_at)
    assert len(store) == 1 and list(store) == [stored]


def test_a_row_is_never_overwritten(tmp_path):
  with ResponseStore(tmp_path / "r.sqlite") as store:
    first = store.put(row("a", "first"))
    assert store.put(row("a", "second")) == first
    assert store.get("a").text == "first" and len(store) == 1


def test_a_row_that_cannot_be_stored_takes_no_other_with_it(tmp_path):
  bad = [{"finish_reason": "\ud800"}, {"prompt_tokens": 10**30}, {"completion_tokens": float("nan")}, {"thought": {}}]

  async def main(store):
    rows = [*(row(f"bad {number}", **fields) for number, fields in enumerate(bad)), *(row(f"{n}") for n in range(50))]
    return await asyncio.gather(*map(store.put_async, rows), return_exceptions=True)

  with ResponseStore(tmp_path / "r.sqlite") as store:
    said = asyncio.run(main(store))
    assert [isinstance(each, Exception) for each in said] == [True] * len(bad) + [False] * 50
    assert sorted(stored.key for stored in store) == sorted(str(n) for n in range(50))


def test_iteration_passes_block_borders_in_order(tmp_path):
  with ResponseStore(tmp_path / "r.sqlite") as store:
    fill(store, (row(f"{number:x}") for number in range(2100)))
    assert [stored.key for stored in store] == [f"{number:x}" for number in range(2100)]


def test_every_part_of_what_is_asked_is_in_the_key():
  asked = {
    "prompt_name": "n", "prompt_hash": "h", "prompt": "p", "teacher": "t", "sampling": Sampling(), "sample": 0
  }  # fmt: skip
  changed = [
    {"prompt_name": "m"}, {"prompt_hash": "g"}, {"prompt": "q"}, {"teacher": "u"}, {"sample": 1},
    {"sampling": Sampling(seed=1)}, {"sampling": Sampling(max_tokens=1)}, {"sampling": Sampling(temperature=0.1)},
    {"sampling": Sampling(top_p=0.5)}, {"sampling": Sampling(top_k=5)}, {"sampling": Sampling(stop=("x",))},
  ]  # fmt: skip
  keys = {request_key(**{**asked, **change}) for change in [{}, *changed]}
  assert len(keys) == 12 and all(len(key) == 64 for key in keys)
  assert request_key(**asked) == request_key(**asked)


def statements(store, *beginnings) -> list[str]:
  """A list that grows by what the store's writer runs from now on."""
  seen = []
  store.connection.set_trace_callback(lambda sql: seen.append(sql) if sql.startswith(beginnings) else None)
  return seen


def test_the_disk_is_told_to_keep_every_response(tmp_path):
  with ResponseStore(tmp_path / "r.sqlite") as store:
    assert store.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    seen = statements(store, "PRAGMA", "COMMIT")
    store.put(row("a"))
    assert seen == ["PRAGMA synchronous=FULL", "COMMIT"]
    seen.clear()
    assert asyncio.run(store.claim("b")) is True  # worth nothing after a power failure
    assert seen == ["PRAGMA synchronous=NORMAL", "COMMIT"]


def test_what_waits_for_the_disk_shares_a_commit(tmp_path):
  with ResponseStore(tmp_path / "r.sqlite") as store:
    seen = statements(store, "BEGIN", "COMMIT")
    fill(store, (row(str(n)) for n in range(200)))
    assert len(store) == 200 and 2 * 4 <= len(seen) < 200  # groups of 64 at most, and not one by one


def test_a_failing_commit_fails_all_that_share_it_and_no_other(tmp_path):
  connection = sqlite3.connect(tmp_path / "w.sqlite", isolation_level=None, check_same_thread=False)
  connection.execute("CREATE TABLE t (n INTEGER)")
  writer = GroupWriter(connection, contextlib.nullcontext, lambda: None)

  def add(n):
    connection.execute("INSERT INTO t VALUES (?)", (n,))
    return n

  futures = [writer.submit(add, n) for n in range(10)]
  bad = writer.submit(lambda: 1 // 0)
  later = writer.submit(add, 10)
  with pytest.raises(ZeroDivisionError):
    bad.result()
  last = writer.submit(add, 11).result()
  writer.close()
  stored = {f.result() for f in [*futures, later] if f.exception() is None}
  assert stored | {last} == {n for (n,) in connection.execute("SELECT n FROM t")}


def test_a_cancelled_wait_still_stores(tmp_path):
  async def main(store):
    tasks = [asyncio.create_task(store.put_async(row(str(n)))) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks:
      task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

  with ResponseStore(tmp_path / "r.sqlite") as store:
    asyncio.run(main(store))
  with ResponseStore(tmp_path / "r.sqlite") as store:
    assert len(store) == 20


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.synthesis.test_store import row
from skymath_jax.synthesis import ResponseStore
store = ResponseStore(sys.argv[1])
for n in range(1_000_000):
  store.put(row(str(n), "x" * 500))
  print(n, flush=True)
"""


def test_kill_9_while_writing_loses_no_answer_that_was_reported(tmp_path):
  path = tmp_path / "r.sqlite"
  command = [sys.executable, "-c", KILLED, str(path), TESTS]
  process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  for line in process.stdout:
    if int(line) >= 150:
      process.send_signal(signal.SIGKILL)
      break
  reported = [150, *(int(line) for line in process.stdout.read().splitlines()[:-1])]
  process.wait()
  assert process.returncode == -signal.SIGKILL
  with ResponseStore(path) as store:
    assert len(store) >= max(reported) + 1
    assert all(store.get(str(n)).text == "x" * 500 for n in range(max(reported) + 1))
    store.put(row("after"))
    assert store.get("after") is not None


def _fill(path, name, count):
  with ResponseStore(path) as store:
    for n in range(count):
      store.put(row(f"{name} {n}"))
      store.put(row(f"shared {n}", name))


def test_two_processes_create_and_fill_one_store(tmp_path):
  path, spawn = tmp_path / "r.sqlite", multiprocessing.get_context("fork")
  writers = [spawn.Process(target=_fill, args=(path, name, 60)) for name in ("a", "b", "c")]
  for writer in writers:
    writer.start()
  for writer in writers:
    writer.join()
  assert [writer.exitcode for writer in writers] == [0, 0, 0]
  with ResponseStore(path) as store:
    assert len(store) == 4 * 60
    assert {store.get(f"shared {n}").text for n in range(60)} <= {"a", "b", "c"}


def test_a_full_disk_is_a_user_error_and_harms_nothing(tmp_path):
  with ResponseStore(tmp_path / "r.sqlite") as store:
    store.put(row("a"))
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(UserError, match=r"r\.sqlite.*full.*free some disk space"):
      store.put(row("b", "x" * 100_000))
    store.connection.execute("PRAGMA max_page_count=100000")
    assert store.get("b") is None and store.get("a") is not None
    store.put(row("b", "x" * 100_000))
  with ResponseStore(tmp_path / "r.sqlite") as store:
    assert len(store) == 2


def test_a_store_that_cannot_be_written_is_a_user_error(tmp_path):
  with ResponseStore(tmp_path / "r.sqlite") as store:
    store.connection.execute("PRAGMA query_only=1")  # what a read-only mount answers; root ignores file modes
    with pytest.raises(UserError, match="make the folder writable"):
      store.put(row("a"))


def test_a_folder_that_cannot_be_made_is_a_user_error(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="the response store fails"):
    ResponseStore(tmp_path / "file" / "r.sqlite")


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from tests.synthesis.test_store import fill, row
from skymath_jax.errors import UserError
from skymath_jax.synthesis import ResponseStore
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
with ResponseStore(sys.argv[1]) as store:
  for n in range(10_000):
    try:
      store.put(row(str(n), "x" * 2000))
    except UserError as error:
      print(n, error)
      break
"""


def test_a_disk_that_takes_no_more_stops_the_work_and_keeps_what_it_took(tmp_path):
  """The kernel refuses to let any file of the process grow: what a full disk or a quota does, without needing one."""
  path = tmp_path / "r.sqlite"
  done = subprocess.run(
    [sys.executable, "-c", LIMITED, str(path), TESTS], capture_output=True, text=True, check=True, timeout=60
  )
  stopped = int(done.stdout.split()[0])
  assert stopped > 10 and "the response store fails" in done.stdout and "run the same command again" in done.stdout
  with ResponseStore(path) as store:
    assert [found.key for found in store] == [str(n) for n in range(stopped)]
    store.put(row("after"))


FIRST_SCHEMA = """
CREATE TABLE responses (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, problem_id TEXT NOT NULL, method TEXT NOT NULL,
  prompt_name TEXT NOT NULL, prompt_hash TEXT NOT NULL, prompt TEXT NOT NULL, teacher TEXT NOT NULL,
  sampling TEXT NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL, asked_at REAL NOT NULL, stored_at REAL NOT NULL
);
INSERT INTO responses VALUES
  (1, 'k', 'p', 'm', 'n', 'h', 'P', 't', '{}', '8 apples', 'stop', 1, 2, 3.0, 4.0);
PRAGMA application_id=1399552333; PRAGMA user_version=1; PRAGMA journal_mode=WAL;
"""


def test_a_store_of_the_first_schema_is_brought_to_the_present_one(tmp_path):
  path = tmp_path / "r.sqlite"
  with sqlite3.connect(path) as old:
    old.executescript(FIRST_SCHEMA)
  old.close()
  with ResponseStore(path) as store:
    assert store.get("k").text == "8 apples" and len(store) == 1
    assert asyncio.run(store.claim("new")) is True
    assert store.connection.execute("PRAGMA user_version").fetchone()[0] == 3
  with ResponseStore(path) as store:
    assert len(store) == 1


def test_one_of_two_stores_asks_and_the_other_waits_for_its_answer(tmp_path):
  async def main(one, two):
    assert not two.shared()
    assert await one.claim("a") is True and await one.claim("a") is True
    assert await two.claim("a") is False and two.shared() and await two.claim("b") is True
    await one.put_async(row("a"))
    assert (await two.claim("a")).text == "8 apples"
    await two.put_async(row("b"))
    assert await one.claim("c") is True and await two.claim("c") is False
    one.release("c")
    assert await one.claim("b") == one.get("b")
    assert await two.claim("c") is True

  with ResponseStore(tmp_path / "r.sqlite") as one, ResponseStore(tmp_path / "r.sqlite") as two:
    asyncio.run(main(one, two))
  assert [path.name for path in tmp_path.iterdir()] == ["r.sqlite"]  # nobody is left, and so are no locks


CLAIMING = """
import asyncio, sys, time
from skymath_jax.synthesis import ResponseStore
store = ResponseStore(sys.argv[1])
print(asyncio.run(store.claim("a")), flush=True)
time.sleep(60)
"""


def test_a_claim_dies_with_its_process(tmp_path):
  path = tmp_path / "r.sqlite"
  other = subprocess.Popen([sys.executable, "-c", CLAIMING, str(path)], stdout=subprocess.PIPE, text=True)
  assert other.stdout.readline() == "True\n"
  with ResponseStore(path) as store:
    assert store.shared() and asyncio.run(store.claim("a")) is False
    other.kill()
    other.wait()
    assert asyncio.run(store.claim("a")) is True and not store.shared()
  assert [found.name for found in tmp_path.iterdir()] == ["r.sqlite"]


@pytest.mark.parametrize("weeks", [-3, 3])
def test_a_clock_that_is_set_takes_no_claim_away(tmp_path, monkeypatch, weeks):
  async def main():
    with ResponseStore(tmp_path / "r.sqlite") as first, ResponseStore(tmp_path / "r.sqlite") as second:
      assert await first.claim("a") is True
      now = time.time()
      monkeypatch.setattr(time, "time", lambda: now + weeks * 7 * 86400)
      assert await second.claim("a") is False  # else it would be paid twice
      first.put(row("a"))
      assert (await second.claim("a")).text == "8 apples"

  asyncio.run(main())


def test_a_process_that_hangs_loses_its_claims_and_its_late_answer_changes_nothing(tmp_path, monkeypatch):
  async def main(hung, store):
    assert await hung.claim("a") is True and await store.claim("a") is False
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0.0)
    assert await store.claim("a") is True
    await store.put_async(row("a", "first"))
    assert (await hung.put_async(row("a", "late"))).text == "first"

  with ResponseStore(tmp_path / "r.sqlite") as hung, ResponseStore(tmp_path / "r.sqlite") as store:
    asyncio.run(main(hung, store))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_a_user_error(tmp_path):
  tmp_path.chmod(0o500)
  with pytest.raises(UserError, match="make the folder writable"):
    ResponseStore(tmp_path / "r.sqlite")


def test_remote_paths_are_refused():
  with pytest.raises(UserError, match="needs a local file"):
    ResponseStore("gs://bucket/r.sqlite")


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
  path = tmp_path / "r.sqlite"
  path.write_text("these are my notes\n" * 100)
  with pytest.raises(UserError, match="not a database"):
    ResponseStore(path)
  assert path.read_text() == "these are my notes\n" * 100


def test_another_programs_database_is_left_alone(tmp_path):
  path = tmp_path / "r.sqlite"
  with sqlite3.connect(path) as other:
    other.execute("CREATE TABLE t (x)")
  other.close()
  before = path.read_bytes()
  with pytest.raises(UserError, match="not a response store"):
    ResponseStore(path)
  assert path.read_bytes() == before


def test_a_newer_schema_is_refused(tmp_path):
  path = tmp_path / "r.sqlite"
  with ResponseStore(path) as store:
    store.connection.execute("PRAGMA user_version=4")
  with pytest.raises(UserError, match=r"schema 4.*knows 3.*update skymath"):
    ResponseStore(path)


def test_a_damaged_store_is_a_user_error(tmp_path):
  path = tmp_path / "r.sqlite"
  with ResponseStore(path) as store:
    fill(store, (row(str(n), "x" * 500) for n in range(300)))
  data = bytearray(path.read_bytes())
  for page in range(3, len(data) // 4096):
    data[page * 4096 : page * 4096 + 200] = b"\xff" * 200
  path.write_bytes(data)
  with pytest.raises(UserError, match=r"r\.sqlite"), ResponseStore(path) as store:
    store.get("5")
