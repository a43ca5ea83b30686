"""A workdir in a bucket (fsspec in memory): what is there, what comes back, what a new machine sees."""

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from skymath_jax import files, integrity, mirror, models
from skymath_jax.cli import main as cli
from skymath_jax.cli.flags import WORKDIR, parse
from skymath_jax.errors import UserError
from skymath_jax.mirror import Mirror
from skymath_jax.recipe import seeds, stages
from skymath_jax.recipe.workdir import Workdir
from skymath_jax.sft import pairs
from skymath_jax.synthesis import ResponseStore, ahead
from skymath_jax.synthesis.store import StoredResponse
from skymath_jax.training.metrics import Writer

URL = "gs://bucket/runs/a"
QUICKSTART = f"--config={Path(__file__).parents[1] / 'configs' / 'quickstart.py'}"


class Bucket(MemoryFileSystem):
  """gs:// in memory."""

  protocol, store, pseudo_dirs = ("gs", "gcs"), {}, [""]

  @classmethod
  def _strip_protocol(cls, path):
    return super()._strip_protocol(path.removeprefix("gs://").removeprefix("gcs://"))


@pytest.fixture
def scratch(tmp_path, monkeypatch):
  """A bucket of this test's own, and the folder of the local copies."""
  monkeypatch.setenv("EPATH_USE_TF", "0")
  monkeypatch.setenv(mirror.SCRATCH_VARIABLE, str(tmp_path))
  for name in ("gs", "gcs"):
    fsspec.register_implementation(name, Bucket, clobber=True)
  _forget_back_ends()
  Bucket.store.clear()
  Bucket.pseudo_dirs[:] = [""]
  yield tmp_path
  monkeypatch.undo()
  _forget_back_ends()


def _forget_back_ends():
  """What epath remembers of this process: whether TensorFlow reads gs://, and the file systems it has opened."""
  epath.gpath._is_tf_installed.cache_clear()
  epath.backend.fsspec_backend._get_filesystem.cache_clear()


def opened(**more):
  found = Mirror(URL, **more)
  found.open(writer=True)
  return found


def test_a_local_workdir_is_its_own_copy(tmp_path):
  here = Mirror(tmp_path)
  here.open(writer=True)
  here.push("")
  assert here.local == here.durable == epath.Path(tmp_path) and list(tmp_path.iterdir()) == []


def test_a_new_machine_sees_what_was_pushed(scratch):
  first = opened()
  files.write_text(first.local / "seeds" / "problems.jsonl", "{}\n")
  integrity.complete(first.local / "seeds", {"output": "x"})
  files.write_text(first.local / "seeds" / "x.tmp", "half")
  first.push("seeds")
  shutil.rmtree(first.local)
  second = opened()
  assert (second.local / "seeds" / "problems.jsonl").read_text() == "{}\n"
  assert files.completion(second.local / "seeds") == {"output": "x"}
  assert not (second.local / "seeds" / "x.tmp").exists()


def test_complete_is_copied_last(scratch, monkeypatch):
  here, order = opened(), []
  monkeypatch.setattr(Bucket, "put_file", lambda self, source, target: order.append(target.rpartition("/")[2]))
  for name in ("COMPLETE.json", "z.jsonl", "a.jsonl"):
    files.write_text(here.local / "sft" / name, "{}")
  here.push("sft")
  assert order == ["a.jsonl", "z.jsonl", "COMPLETE.json"]


def test_what_is_gone_goes_in_the_bucket_but_checkpoints_stay(scratch):
  here = opened()
  files.write_text(here.local / "sft" / "old", "1")
  here.push("sft")
  (here.local / "sft" / "old").unlink()
  files.write_text(here.local / "sft" / "new", "1")
  (here.durable / "checkpoints" / "stage1" / "model.json").write_text("{}")
  here.pull("checkpoints/stage1")
  (here.local / "checkpoints" / "stage1" / "model.json").unlink()
  here.push("sft")
  here.push("checkpoints/stage1")
  assert [p.name for p in (here.durable / "sft").iterdir()] == ["new"]
  assert (here.durable / "checkpoints" / "stage1" / "model.json").exists()


def test_arrays_of_checkpoints_are_never_copied(scratch):
  here = opened()
  (here.durable / "checkpoints" / "stage1" / "steps" / "5" / "params").write_text("array")
  here.pull("")
  assert not (here.local / "checkpoints").exists()


def test_an_object_that_would_lie_outside_is_refused(scratch):
  here = opened()
  Bucket().pipe_file("gs://bucket/runs/a/seeds/../../../../stray", b"x")
  with pytest.raises(UserError, match=r"\.\./stray would lie outside"):
    here.pull("")
  assert not list(scratch.rglob("stray"))


@pytest.mark.parametrize("name", ["nul\0x", "x" * 300, "a/" + "y" * 5000])
def test_an_object_that_cannot_be_a_file_is_named(scratch, name):
  here = opened()
  Bucket.store[f"/bucket/runs/a/{name}"] = MemoryFile(Bucket(), f"/bucket/runs/a/{name}", b"x")
  with pytest.raises(UserError, match="cannot be a file here"):
    here.pull("")


def test_links_in_the_local_copy_lead_nowhere(scratch, tmp_path_factory):
  here, outside = opened(), tmp_path_factory.mktemp("outside")
  (Path(here.local) / "link").symlink_to(outside / "file")
  Bucket().pipe_file(f"{URL}/link", b"x")
  here.pull("")
  assert not list(outside.iterdir()) and (here.local / "link").read_text() == "x"
  (Path(here.local) / "seeds").symlink_to(outside)
  Bucket().pipe_file(f"{URL}/seeds/x", b"x")
  with pytest.raises(UserError, match="seeds/x would lie outside"):
    here.pull("")
  assert not list(outside.iterdir())


def test_a_workdir_in_another_one_is_refused(scratch):
  opened()
  for other in ("gs://bucket/runs", f"{URL}/b/c"):
    with pytest.raises(UserError, match=r"a workdir in another one \(/bucket/runs/a\)"):
      Mirror(other).open(writer=True)
  for address in ("gs://bucket//runs/a/", "gs://bucket/runs/./a"):
    assert Mirror(address).local == Mirror(URL).local
  with pytest.raises(UserError, match=r"an address with \.\."):
    Workdir("gs://bucket/runs/b/../a")


INSERT = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE IF NOT EXISTS t (x)")
for number in range(int(sys.argv[2])):
  db.execute("INSERT INTO t VALUES (?)", (f"answer {number}" * 30,))
  if number % 500 == 0:
    db.commit()
db.commit()
os._exit(9)  # killed: neither closed nor pushed
"""


def test_what_a_killed_owner_had_not_copied_is_kept_and_copied(scratch):
  here = opened()
  path = here.local / "synthesis" / "responses.sqlite"
  path.parent.mkdir(parents=True)
  subprocess.run([sys.executable, "-c", INSERT, str(path), "100"], check=False)
  files.write_text(here.local / "seeds" / "a", "whole")
  integrity.complete(here.local / "seeds", {})
  here.push("")
  subprocess.run([sys.executable, "-c", INSERT, str(path), "20000"], check=False)  # so many that the file grows, too
  files.write_text(here.local / "seeds" / "a", "cut")  # damage: of a complete folder the bucket's is right
  back = opened()
  assert (back.local / "seeds" / "a").read_text() == (back.durable / "seeds" / "a").read_text() == "whole"
  with contextlib.closing(sqlite3.connect(path)) as db:
    assert db.execute("SELECT count(*) FROM t").fetchone() == (20_100,)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
  shutil.rmtree(back.local)
  with contextlib.closing(sqlite3.connect(opened().local / "synthesis" / "responses.sqlite")) as db:
    assert db.execute("SELECT count(*) FROM t").fetchone() == (20_100,)


def test_odd_names_come_back(scratch):
  names = ["a[1]*?.jsonl", "b#1 c.jsonl", "exp[2]/ä.jsonl"]
  first = opened()
  for name in names:
    files.write_text(first.local / "sft" / name, name)
  first.push("sft")
  shutil.rmtree(first.local)
  again = opened()
  assert [(again.local / "sft" / name).read_text() for name in names] == names


def test_a_listing_that_fails_is_not_an_empty_folder(scratch, monkeypatch):
  here = opened()
  monkeypatch.setattr(Bucket, "ls", lambda self, path, **more: (_ for _ in ()).throw(OSError("no network")))
  with pytest.raises(OSError, match="no network"):
    here.pull("")


def test_a_database_is_copied_whole_while_it_is_written(scratch):
  here = opened()
  path = here.local / "synthesis" / "responses.sqlite"
  path.parent.mkdir(parents=True)
  with sqlite3.connect(path) as db:
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE t (x)")
    db.execute("INSERT INTO t VALUES (1)")
    db.commit()
    here.push("synthesis")
    db.execute("INSERT INTO t VALUES (2)")
    db.commit()
    here.push("synthesis")
  assert [p.name for p in (here.durable / "synthesis").iterdir()] == ["responses.sqlite"]
  shutil.rmtree(here.local)
  again = opened()
  with sqlite3.connect(again.local / "synthesis" / "responses.sqlite") as db:
    assert db.execute("SELECT x FROM t").fetchall() == [(1,), (2,)]


def test_a_complete_folder_with_a_database_is_undamaged_on_the_next_machine(scratch):
  here = opened()
  folder = here.local / "synthesis"
  folder.mkdir(parents=True)
  with contextlib.closing(sqlite3.connect(folder / "responses.sqlite")) as db:
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE t (x)")
    for number in range(500):
      db.execute("INSERT INTO t VALUES (?)", (f"answer {number}" * 20,))
      db.commit()
      if number == 200:
        here.push("synthesis")  # in the midst of its making
    db.execute("DELETE FROM t WHERE rowid < 300")
    db.commit()
  integrity.complete(folder, {"output": "x"})
  here.push("synthesis")
  shutil.rmtree(here.local)
  again = opened()
  assert integrity.completion(again.local / "synthesis") == {"output": "x"}
  assert integrity.damages(again.local / "synthesis", contents=True) == {}


def answer(number):
  texts = dict.fromkeys(("problem_id", "method", "prompt_name", "prompt_hash", "prompt", "teacher", "sampling"), "x")
  more = {"finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1, "asked_at": 1.0}
  return StoredResponse(key=str(number), text=f"answer {number}", **texts, **more)


def store_of(mirror, *, send=False):
  path = mirror.local / "synthesis" / "responses.sqlite"
  return ResponseStore(path, (lambda name, data: mirror.put(f"synthesis/{name}", data)) if send else None)


def test_an_answer_is_in_the_bucket_when_it_is_stored_and_a_lost_machine_takes_none_along(scratch):
  here = opened()
  with store_of(here, send=True) as store:
    for number in range(3):
      store.put(answer(number))
    here.push("synthesis")  # the database, and what was sent ahead of it goes
    assert [p.name for p in (here.durable / "synthesis").iterdir()] == ["responses.sqlite"]
    store.put(answer(3))
    asyncio.run(store.put_async(answer(4)))
    shutil.copytree(here.local, scratch / "lost")  # as a machine is lost: nothing is closed
    opened(process=7)  # and is lost, too, before it has looked at them
    other = opened(process=7)
    with store_of(other) as found:
      assert [row.text for row in found] == [f"answer {number}" for number in range(5)]
    other.push("synthesis")
    assert [p.name for p in (other.durable / "synthesis").iterdir()] == ["responses.sqlite"]
    assert not list(other.local.glob(f"synthesis/{ahead.PREFIX}*"))


def test_a_bucket_that_refuses_for_a_while_gets_the_answers_later(scratch, monkeypatch, capfd):
  monkeypatch.setattr(mirror, "AGAIN_SECONDS", 0.01)
  here, refusals, pipe_file = opened(), [OSError("no network")] * 3, Bucket.pipe_file

  def refusing(self, *words, **more):
    if refusals:
      raise refusals.pop()
    pipe_file(self, *words, **more)

  monkeypatch.setattr(Bucket, "pipe_file", refusing)
  with store_of(here, send=True) as store:
    assert store.put(answer(1)).text == "answer 1"
    assert len(list((here.durable / "synthesis").iterdir())) == 1
    assert capfd.readouterr().err.count("could not be copied there (OSError: no network)") == 1
    monkeypatch.setattr(mirror, "PATIENCE_SECONDS", 0.0)
    refusals.append(OSError("no network"))
    with pytest.raises(UserError, match="could not be copied"):
      store.put(answer(2))
    assert store.get("2").text == "answer 2"  # on this machine it is kept


def test_a_file_sent_ahead_that_holds_no_answers_is_named(scratch):
  here = opened()
  files.write_text(here.local / "synthesis" / f"{ahead.PREFIX}1.jsonl", '{"key": "x"}\n')
  with pytest.raises(UserError, match=r"holds no answer .*missing"):
    store_of(here)


def test_a_copy_that_another_machine_has_overtaken_is_put_aside(scratch, capfd):
  old = opened()
  files.write_text(old.local / "a", "old")
  old.push("")
  other = Mirror(URL, process=7)  # another machine: another local copy
  other.open(writer=True)
  files.write_text(other.local / "a", "newer")
  other.push("")
  files.write_text(old.local / "stray", "of a run that went on elsewhere")
  back = opened()
  assert (back.local / "a").read_text() == "newer" and not (back.local / "stray").exists()
  aside = scratch / "process0/gs/bucket/runs/.a.overtaken"
  assert (aside / "stray").exists() and str(aside) in capfd.readouterr().err


def test_the_stage_at_work_is_copied_now_and_then(scratch, monkeypatch):
  monkeypatch.setattr(mirror, "PUSH_SECONDS", 0.01)
  here = opened()
  with here.kept_up("evaluation"):
    files.write_text(here.local / "evaluation" / "predictions.jsonl", "{}\n")
    for _ in range(500):
      if (here.durable / "evaluation" / "predictions.jsonl").exists():
        break
      mirror.threading.Event().wait(0.01)
  assert (here.durable / "evaluation" / "predictions.jsonl").read_text() == "{}\n"


def test_metrics_reach_the_bucket_before_the_checkpoint(scratch):
  folder = f"{URL}/checkpoints/stage1"
  here = opened()
  with Writer(folder, step=0) as writer:
    writer.write({"step": 1, "loss": 2.0})
    writer.flush()
    assert '"loss": 2.0' in (epath.Path(folder) / "metrics.jsonl").read_text()
  assert (here.local / "checkpoints" / "stage1" / "metrics.jsonl").exists()


def test_a_verb_on_a_bucket_goes_on_on_another_machine(scratch, capfd):
  arguments = ["seeds", QUICKSTART, f"--workdir={URL}", "--config.seeds.limit=3"]
  assert cli.call(arguments) == 0
  names = {p.name for p in (epath.Path(URL) / "seeds").iterdir()}
  assert names == {"problems.jsonl", "summary.json", "COMPLETE.json", integrity.MANIFEST}
  shutil.rmtree(scratch / "process0")
  assert cli.call(arguments) == 0
  assert "seeds: complete, skipped" in capfd.readouterr().err
  assert cli.call([*arguments, "--config.seeds.limit=4"]) == 0
  assert len((epath.Path(URL) / "seeds/problems.jsonl").read_text().splitlines()) == 4
  (scratch / "process0/gs/bucket/runs/a/synthesis").mkdir()
  assert cli.call([*arguments, "--config.seeds.limit=3"]) == 1
  assert "was made with config.seeds.limit = 4, now it is 3" in capfd.readouterr().err


@pytest.mark.parametrize(
  "error, message",
  [
    (ImportError("gcsfs"), "is not installed (gcsfs)"),
    (OSError("Forbidden"), "cannot be read (OSError: Forbidden"),
  ],
)
def test_a_bucket_that_cannot_be_had_is_told(scratch, monkeypatch, capfd, error, message):
  def refuse(self, path, **more):
    raise error

  monkeypatch.setattr(Bucket, "exists", refuse)
  assert cli.call(["seeds", QUICKSTART, f"--workdir={URL}"]) == 1
  assert f"{URL}: " in (said := capfd.readouterr().err) and message in said and "Traceback" not in said


def test_a_workdir_in_a_bucket_has_one_owner(scratch, monkeypatch):
  monkeypatch.setattr("socket.gethostname", lambda: "first")
  with Workdir(URL).owned():
    monkeypatch.setattr("socket.gethostname", lambda: "second")
    monkeypatch.setenv(mirror.SCRATCH_VARIABLE, str(scratch / "another machine"))
    with pytest.raises(UserError, match="on first works here"):
      cli_seeds()
    assert cli.call(["verify", URL]) == 1
  cli_seeds()
  assert not Bucket().exists(f"{URL}/.owner.json")


def cli_seeds():
  values = parse(["seeds", QUICKSTART, f"--workdir={URL}", "--config.seeds.limit=3"], WORKDIR, config="required")
  stages.perform([seeds.STAGE], values.config, values.workdir)


def test_a_model_and_pairs_in_a_bucket_are_read(scratch):
  for path in models.resolve("asset:micro_base").iterdir():
    Bucket().pipe_file(f"gs://bucket/models/tiny/{path.name}", path.read_bytes())
  Bucket().pipe_file("gs://bucket/pairs.jsonl", b'{"question": "q", "answer": "a"}\n')
  assert models.config_of("gs://bucket/models/tiny") == models.config_of("asset:micro_base")
  assert models.weights_hash("gs://bucket/models/tiny") == models.weights_hash("asset:micro_base")
  assert models.tokenizer_of("gs://bucket/models/tiny").hash == models.tokenizer_of("asset:micro_base").hash
  assert list(pairs.open("gs://bucket/pairs.jsonl")) == [{"query": "q", "response": "a"}]
