import asyncio
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
from skymath_jax.synthesis import ResponseStore, StoredResponse
from skymath_jax.synthesis.store import request_key, sampling_json

TESTS = str(Path(__file__).parents[1])


def row(key: str, text: str = "8 apples", **fields) -> StoredResponse:
  values = {
    "key": key, "problem_id": "p", "method": "metamath.rephrase", "prompt_name": "metamath/rephrase",
    "prompt_hash": "h", "prompt": "Tell …", "teacher": "t@0", "sampling": sampling_json(Sampling(seed=3)),
    "text": text, "finish_reason": "stop", "prompt_tokens": 5, "completion_tokens": 2, "asked_at": 1.5,
  }  # fmt: skip
  return StoredResponse(**{**values, **fields})


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


def test_iteration_passes_block_borders_in_order(tmp_path):
  with ResponseStore(tmp_path / "r.sqlite") as store:
    store._connection.execute("PRAGMA synchronous=OFF")  # 2,100 rows, not 2,100 waits for the disk
    for number in range(2100):
      store.put(row(f"{number:x}"))
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


def test_the_disk_is_told_to_keep_every_commit(tmp_path):
  with ResponseStore(tmp_path / "r.sqlite") as store:
    assert store._connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    assert store._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_concurrent_puts_are_one_durable_transaction_each(tmp_path):
  async def main(store):
    await asyncio.gather(*(store.put_async(row(str(n))) for n in range(100)))

  with ResponseStore(tmp_path / "r.sqlite") as store:
    asyncio.run(main(store))
    begins = []
    store._connection.set_trace_callback(
      lambda sql: begins.append(sql) if sql.startswith(("BEGIN", "COMMIT")) else None
    )
    asyncio.run(main(store))  # all there already: still 100 transactions, no new row
    assert len(begins) == 200 and len(store) == 100


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
from synthesis.test_store import row
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
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(UserError, match=r"r\.sqlite.*full.*free some disk space"):
      store.put(row("b", "x" * 100_000))
    store._connection.execute("PRAGMA max_page_count=100000")
    assert store.get("b") is None and store.get("a") is not None
    store.put(row("b", "x" * 100_000))
  with ResponseStore(tmp_path / "r.sqlite") as store:
    assert len(store) == 2


def test_a_store_that_cannot_be_written_is_a_user_error(tmp_path):
  with ResponseStore(tmp_path / "r.sqlite") as store:
    store._connection.execute("PRAGMA query_only=1")  # what a read-only mount answers; root ignores file modes
    with pytest.raises(UserError, match="make the folder writable"):
      store.put(row("a"))


def test_a_folder_that_cannot_be_made_is_a_user_error(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="the response store fails"):
    ResponseStore(tmp_path / "file" / "r.sqlite")


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
    store._connection.execute("PRAGMA user_version=2")
  with pytest.raises(UserError, match=r"schema 2.*knows 1.*update skymath"):
    ResponseStore(path)


def test_a_damaged_store_is_a_user_error(tmp_path):
  path = tmp_path / "r.sqlite"
  with ResponseStore(path) as store:
    store._connection.execute("PRAGMA synchronous=OFF")
    for n in range(300):
      store.put(row(str(n), "x" * 500))
  data = bytearray(path.read_bytes())
  for page in range(3, len(data) // 4096):
    data[page * 4096 : page * 4096 + 200] = b"\xff" * 200
  path.write_bytes(data)
  with pytest.raises(UserError, match=r"r\.sqlite"), ResponseStore(path) as store:
    store.get("5")
