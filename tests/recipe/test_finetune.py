"""`skymath train --data=… --model=…`: anybody's pairs, any model, no config; and `curate` on the same."""

import json
import shutil

import pytest

from skymath_jax import files
from skymath_jax import rows as rows_lib
from skymath_jax.cli import main
from skymath_jax.records import read_lines
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


JINJA = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}[assistant] "


@pytest.mark.parametrize(
  ("template", "rank", "asked"),
  [
    ("mine.jinja", 2, "chat:raw"),
    pytest.param("mine.jinja+thoughts", 0, "chat:raw", marks=pytest.mark.slow),
    pytest.param("raw", 0, "raw", marks=pytest.mark.slow),
    pytest.param("sft/alpaca", 2, "sft/alpaca", marks=pytest.mark.slow),
  ],
)
def test_what_was_trained_is_asked_as_it_was_trained_wherever_it_goes(folder, capfd, template, rank, asked):
  (folder / "mine.jinja").write_text(JINJA)
  assert train("pairs.jsonl", f"--config.training.template={template}", f"--config.training.lora_rank={rank}") == 0
  checkpoint = "w/checkpoints/stage1"
  (folder / "mine.jinja").unlink()
  assert main.call(["export", f"--checkpoint={checkpoint}", "--out=merged", "--logits=false"]) == 0
  if rank:
    assert main.call(["export", f"--checkpoint={checkpoint}", "--out=adapters", "--adapter"]) == 0
  assert main.call(["import", "--hf=merged", "--out=again", "--logits=false"]) == 0
  for model in (checkpoint, "merged", "again", *(["adapters"] if rank else [])):
    words = ["--config.evaluation.limit=2", "--config.evaluation.max_tokens=4", f"--workdir=of/{model}"]
    assert main.call(["evaluate", f"--model={model}", "--benchmark=micro_gsm:test", *words]) == 0
    summary = files.read_json(f"of/{model}/evaluation/micro_gsm_test/summary.json")
    assert summary["prompt"]["name"] == asked and summary["warnings"] == []
    assert summary["provenance"]["template_hash"] == summary["prompt"].get("chat", summary["prompt"]["hash"])


@pytest.fixture
def uploads(folder, monkeypatch):
  """Repository → (kind, folder with what was uploaded to it)."""
  import huggingface_hub

  found = {}

  class Api:
    def repo_exists(self, name, repo_type):
      return True

    def upload_folder(self, *, folder_path, repo_id, repo_type, **_):
      shutil.copytree(folder_path, folder / "uploaded" / repo_id)
      found[repo_id] = repo_type, folder / "uploaded" / repo_id

  monkeypatch.setattr(huggingface_hub, "HfApi", Api)
  return found


def test_a_data_set_that_is_pushed_has_a_card_and_can_be_read(folder, uploads):
  from huggingface_hub import DatasetCard

  tests = "--config.curation.test_sets=micro_gsm:test"
  assert main.call(["curate", "--data=pairs.jsonl", "--workdir=w", tests, "--push=org/sums"]) == 0
  ((name, (kind, uploaded)),) = uploads.items()
  assert (name, kind) == ("org/sums", "dataset")
  kept = [row for _, row in read_lines(folder / "w/curation/kept.jsonl")]
  assert [row for _, row in rows_lib.read(str(uploaded))] == kept and not list(uploaded.glob("dropped*"))
  card = DatasetCard((uploaded / "README.md").read_text())
  assert card.data.size_categories == ["n<1K"] and card.data.task_categories == ["text-generation"]
  assert card.data.configs[0]["data_files"][0]["path"] == "data/train.jsonl"
  assert "skymath train --data=org/sums" in card.text and "(funnel.svg)" in card.text
  assert (uploaded / "funnel.svg").exists() and not list((folder / "w/curation").glob("tmp*"))
  assert main.call(["curate", "--data=pairs.jsonl", "--workdir=w", "--push=sums"]) == 2


def test_a_model_that_is_pushed_says_what_it_is_and_how_to_ask_it(folder, uploads):
  from huggingface_hub import ModelCard

  assert train("pairs.jsonl") == 0
  config = files.read_json("w/config.json")
  config["model"]["path"], config["training"]["data"] = "org/base@v1", "metamathqa:0.5,org/sums:train,pairs.jsonl"
  files.write_json("w/config.json", config)
  (folder / "w/checkpoints/stage1/tokenizer/LICENSE").write_text("  Apache License\n Version 2.0")
  found = {"name": "gsm8k:test", "mode": "symbolic", "accuracy": {"all": 0.4321, "n": 1319, "ci95": [0.4, 0.47]}}
  files.write_json("w/evaluation/stage1/summary.json", found)
  files.write_json("w/evaluation/base/summary.json", found)
  words = ["--checkpoint=w/checkpoints/stage1", "--out=out", "--logits=false", "--push=org/mine"]
  assert main.call(["export", *words]) == 0
  kind, uploaded = uploads["org/mine"]
  card = ModelCard((uploaded / "README.md").read_text())
  assert kind == "model" and card.data.base_model == "org/base" and card.data.license == "apache-2.0"
  assert card.data.datasets == ["meta-math/MetaMathQA", "org/sums"]
  (result,) = card.data.eval_results
  assert (result.dataset_name, result.metric_type, result.metric_value) == ("gsm8k:test", "accuracy", 43.21)
  assert "40.0-47.0" in result.metric_name and card.data.model_name == "org/mine"
  assert 'pipeline("text-generation", "org/mine")' in card.text and "ends with `</s>`" in card.text
  assert "MetaMath, arXiv:2309.12284; licence MIT; each row 0.5 times an epoch" in card.text
