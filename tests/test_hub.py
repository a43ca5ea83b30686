"""Models and data sets by their hub ids, against a hub on this machine."""

import gzip
import json

import pytest

from skymath_jax import hub, models, rows
from skymath_jax.errors import UserError
from tests.support import hub as fake


@pytest.fixture
def server(tmp_path, monkeypatch):
  hub.model.cache_clear()
  hub.files_of.cache_clear()
  for name, text in {
    "models/org/tiny/config.json": "{}",
    "models/org/tiny/model.safetensors": "weights",
    "models/org/tiny/pytorch_model.bin": "pickle",
    "models/org/tiny/modeling_tiny.py": "code",
    "models/org/tiny/onnx/config.json": "{}",
    "models/org/gated/config.json": "{}",
    "datasets/org/sums/data/train.jsonl": '{"question": "2 + 3 = ?", "answer": "5"}\n',
    "datasets/org/sums/data/test.jsonl": '{"question": "3 + 3 = ?", "answer": "6"}\n',
    "datasets/org/sums/README.md": "card",
  }.items():
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  with fake.serving(tmp_path, monkeypatch) as server:
    yield server


def test_of_a_model_only_weights_json_and_tokenizer_are_fetched(server):
  folder = models.resolve("org/tiny")
  assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
  assert models.resolve("org/tiny@main") == models.resolve(f"org/tiny@{fake.COMMIT}") == folder
  count = len(server.asked)
  assert models.resolve("org/tiny") == folder and len(server.asked) == count  # asked once


def test_a_folder_here_takes_precedence(server, tmp_path, monkeypatch):
  (tmp_path / "org" / "tiny").mkdir(parents=True)
  monkeypatch.chdir(tmp_path)
  assert str(models.resolve("org/tiny")) == "org/tiny" and not server.asked


@pytest.mark.parametrize(
  ("name", "what"),
  [
    ("org/none", "no such folder here, and no such repository on the hub"),
    ("org/gated", r"this repository is gated\. accept its licence at http.*org/gated, then set HF_TOKEN"),
    ("org/tiny@v9", "no such revision"),
    ("one/two/../three", "no such model folder"),
  ],
)
def test_what_the_hub_refuses_is_told_plainly(server, name, what):
  with pytest.raises(UserError, match=what):
    models.resolve(name)


def test_without_a_network_the_cache_is_read(server, monkeypatch):
  from huggingface_hub import constants

  folder = models.resolve("org/tiny")
  rows.find("org/sums:train")
  for cached in (hub.model, hub.files_of):
    cached.cache_clear()
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  asked = len(server.asked)
  assert models.resolve("org/tiny") == folder
  assert [row["answer"] for _, row in rows.read("org/sums:train")] == ["5"]
  with pytest.raises(UserError, match=r"nor in the hub's cache \(HF_HUB_OFFLINE is set\)"):
    models.resolve("org/other")
  assert len(server.asked) == asked


def test_of_a_data_set_only_the_split_that_is_read_is_fetched(server):
  with pytest.raises(UserError, match=r"2 splits \(test, train\).*org/sums:train"):
    rows.find("org/sums")
  table = rows.find("org/sums:train")
  assert table.name == "sums" and [row for _, row in table] == [{"question": "2 + 3 = ?", "answer": "5"}]
  assert not [line for line in server.asked if "test.jsonl" in line]
  assert rows.find("org/sums@main/data:test").files[0].name == "test.jsonl"


def test_a_public_set_is_read_by_its_short_name(server, tmp_path):
  folder = tmp_path / "datasets" / "meta-math" / "MetaMathQA"
  folder.mkdir(parents=True)
  made = [{"type": "GSM_Rephrased", "query": "q", "original_question": "o", "response": "r"}]
  (folder / "MetaMathQA-395K.json").write_text(json.dumps(made))
  table = rows.find("metamathqa")
  assert [row for _, row in table] == made and table.preset.licence == "MIT"
  packed = tmp_path / "datasets" / "org" / "packed"
  packed.mkdir(parents=True)
  (packed / "train.jsonl.gz").write_bytes(gzip.compress(b'{"query": "q", "response": "r"}\n'))
  assert [row for _, row in rows.read("org/packed")] == [{"query": "q", "response": "r"}]


def test_an_export_is_pushed_without_hidden_files_to_a_private_repository(tmp_path, monkeypatch):
  import huggingface_hub

  asked = []

  class Api:
    def repo_exists(self, name, repo_type):
      return False

    def create_repo(self, name, **options):
      asked.append((name, options))

    def upload_folder(self, **options):
      asked.append(options)

  monkeypatch.setattr(huggingface_hub, "HfApi", Api)
  monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
  assert hub.push(tmp_path, "org/new") == "https://hub.example/org/new"
  assert hub.push(tmp_path, "org/set", kind="dataset") == "https://hub.example/datasets/org/set"
  assert asked[0] == ("org/new", {"repo_type": "model", "private": True})
  assert asked[1]["folder_path"] == str(tmp_path) and asked[1]["ignore_patterns"] == [".*"]


def test_sizes_are_known_without_fetching_weights(server, tmp_path):
  (tmp_path / "models" / "org" / "tiny" / "config.json").write_text(
    (models.ASSETS / "micro_base" / "config.json").read_text()
  )
  assert models.config_of("org/tiny") == models.config_of("asset:micro_base")
  assert models.config_of("mistralai/Mistral-7B-v0.1").layers == 32
  assert not [line for line in server.asked if "safetensors" in line or "mistral" in line]
