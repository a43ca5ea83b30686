"""`skymath train --data=… --model=…`: anybody's pairs, any model, no config; and `curate` on the same."""

import json

import pytest

from skymath_jax import files
from skymath_jax.cli import main
from tests.support.curation import story

SMALL = (
  "--config.training.stage1.epochs=1", "--config.training.rows=2", "--config.training.max_length=96",
  "--config.training.checkpoint_every=2",
)  # fmt: skip


def rows(count):
  return [{"problem": story("horse", n), "solution": f"{n}.\nThe answer is {n}"} for n in range(2, count + 2)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(6)))
  return tmp_path


def train(data, *more):
  return main.call(["train", f"--data={data}", "--model=asset:micro_base", "--workdir=w", *SMALL, *more])


def test_pairs_and_a_model_are_enough_and_changed_pairs_are_noticed(folder, capfd):
  assert train("pairs.jsonl") == 0
  assert "pairs.jsonl is read as: query = problem, response = solution" in capfd.readouterr().err
  facts = files.completion("w/checkpoints/stage1")
  assert facts["examples"] == 6 and len((folder / "w/checkpoints/stage1/metrics.jsonl").read_text().splitlines()) > 1
  assert train("pairs.jsonl") == 0 and "complete, skipped" in capfd.readouterr().err
  with (folder / "pairs.jsonl").open("a") as file:
    file.write(json.dumps(rows(1)[0]) + "\n")
  assert train("pairs.jsonl") == 1
  assert "the checkpoint here belongs to another run: data was" in capfd.readouterr().err


def test_what_curate_wrote_is_trained_on(folder):
  tests = "--config.curation.test_sets=micro_gsm:test"
  assert main.call(["curate", "--data", "pairs.jsonl", "--workdir=w", tests]) == 0
  kept = files.read_json("w/curation/summary.json")["kept"]
  assert train("w/curation", tests) == 0
  assert files.completion("w/checkpoints/stage1")["examples"] == kept > 1


@pytest.mark.parametrize(
  ("words", "code", "what"),
  [
    (["train", "--data=pairs.jsonl", "--workdir=w"], 2, "--model is missing"),
    (["train", "--workdir=w"], 2, "--config is missing"),
    (["train", "--data=nope.jsonl", "--model=asset:micro_base", "--workdir=w"], 1, "nope.jsonl: no such file"),
    (["train", "--data=pairs.jsonl", "--model=asset:micro_base", "--workdir=w/exp[1]"], 1, "kept in a path with [ ]"),
    (["train", "--data=pairs.jsonl", "--model=no-such-model", "--workdir=w"], 1, "no such model folder"),
  ],
)
def test_what_is_missing_is_told(folder, capfd, words, code, what):
  assert main.call(words) == code
  assert what in capfd.readouterr().err
