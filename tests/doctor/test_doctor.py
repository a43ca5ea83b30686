"""Eight model folders and five data sets with a planted fault each: all are found. Healthy ones raise no alarm."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from skymath_jax import doctor, models
from skymath_jax.cli import main
from skymath_jax.convert import parity
from skymath_jax.records import Problem
from tests.support.curation import TEST, story

TURNS = (
  "{%- for m in messages %}[{{ m.role }}] {{ m.content }}END{%- endfor %}{%- if add_generation_prompt %}[assistant] "
)
TEMPLATE = TURNS + "{%- endif %}"


def changed(folder, name, **changes):
  path = folder / name
  path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def weights(folder, change):
  held = dict(load_file(folder / "model.safetensors"))
  change(held)
  save_file(held, folder / "model.safetensors")


def template(folder, end):
  changed(folder, "tokenizer_config.json", chat_template=TEMPLATE.replace("END", end))


def no_end_token(folder):
  changed(folder, "tokenizer_config.json", eos_token=None)
  changed(folder, "config.json", eos_token_id=None)
  changed(folder, "generation_config.json", eos_token_id=None)


FAULTS = {
  "embedding": lambda f: changed(f, "tokenizer_config.json", additional_special_tokens=["<|new|>"]),
  "embedding 2": lambda f: changed(f, "config.json", vocab_size=900),
  "head": lambda f: weights(f, lambda held: held.pop("lm_head.weight")),
  "end": lambda f: template(f, "<s>"),
  "end 2": no_end_token,
  "template": lambda f: template(f, ""),
  "weights": lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
  "weights 2": lambda f: changed(f, "config.json", hidden_act="relu6"),
}


@pytest.fixture
def folder(tmp_path):
  shutil.copytree(models.resolve("asset:micro_base"), tmp_path / "model")
  return tmp_path / "model"


@pytest.mark.parametrize("name", FAULTS)
def test_each_planted_fault_of_a_model_is_found(folder, name):
  FAULTS[name](folder)
  found = doctor.audit_model(str(folder))
  assert [f.check for f in found if f.severity == "error"] == [name.split()[0]], found


@pytest.mark.parametrize("name", ["asset:micro_base", "asset:micro_teacher", "with a template"])
def test_a_healthy_model_raises_no_alarm(folder, name):
  if name == "with a template":
    template(folder, "</s>")
    name = str(folder)
  assert {f.severity for f in doctor.audit_model(name)} <= {"note"}


GOOD = [{"query": story("horse", n), "response": f"So.\nThe answer is {n}", "gold": str(n)} for n in (3, 17, 29)]
DATA_FAULTS = {
  "empty": {"query": "Why?", "response": ""},
  "duplicates": {**GOOD[0], "query": GOOD[0]["query"].upper()},
  "leaks": {"query": TEST.question, "response": "64"},
  "thoughts": {"query": "Why not?", "response": "<think>so we go on and on"},
  "golds": {"query": "What is 3 + 4?", "response": "The answer is 8", "gold": "7"},
}


def audit(tmp_path, rows):
  (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  tests = {"spiders": [TEST], "other": [Problem.create("o", "What is the sum of the first ten odd numbers?")]}
  return doctor.audit_data(str(tmp_path / "rows.jsonl"), "", tests, frame=None, max_length=0)


@pytest.mark.parametrize("name", DATA_FAULTS)
def test_each_planted_row_is_found_and_counted(tmp_path, name):
  found = [f for f in audit(tmp_path, [*GOOD, DATA_FAULTS[name]]) if f.severity != "note"]
  assert [f.check for f in found] == [name] and "1 of" in found[0].what, found


def test_healthy_rows_raise_no_alarm(tmp_path):
  animals = ("horse", "sheep", "spider of the third kind that lives under a roof in the old town")
  rows = [{"query": story(animal, 3 + i), "response": f"{i}.\nThe answer is {i}"} for i, animal in enumerate(animals)]
  assert audit(tmp_path, rows) == []


def test_the_command_prints_the_worst_first_and_ends_with_1_if_anything_is_wrong(folder, tmp_path, capsys):
  long = {"query": "Count.", "response": " ".join(map(str, range(400)))}
  (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*GOOD, long]))
  words = [f"--data={tmp_path}/rows.jsonl", "--against=micro_gsm:test"]
  assert main.call(["doctor", str(folder), *words]) == 0
  told = capsys.readouterr().out
  assert "length: 1 of 4 rows are longer than the model's 256 positions" in told and told.endswith("1 notes\n")
  FAULTS["head"](folder)
  assert main.call(["doctor", str(folder)]) == 1
  assert capsys.readouterr().out.startswith("error   head: ")


def test_text_is_compared_where_it_is_asked_for(monkeypatch, capsys):
  same = {"compared_with": "another", "prompts": 3, "max_abs_logit_diff": 1e-5, "max_abs_logit": 9.0}
  same["same_greedy_text"] = True
  for change, severity in (
    ({}, "note"),
    ({"same_greedy_text": False}, "warning"),
    ({"max_abs_logit_diff": 2.0}, "error"),
  ):
    monkeypatch.setattr(parity, "report", lambda *_, c=change, **__: same | c)
    assert [(f.severity, f.check) for f in doctor.audit_text("asset:micro_base")] == [(severity, "text")]
  assert main.call(["doctor", "asset:micro_base", "--text"]) == 1
  assert "logits differ by 2.00e+00 from the original's (compared with another)" in capsys.readouterr().out


@pytest.mark.slow
def test_the_text_of_a_bundled_model_is_that_of_transformers():
  pytest.importorskip("transformers")
  (found,) = doctor.audit_text("asset:micro_teacher")
  assert found.severity == "note" and "transformers" in found.what


def test_weights_are_not_loaded(folder):
  weights(folder, lambda held: held.update({k: np.full_like(v, np.nan) for k, v in held.items()}))
  assert {f.severity for f in doctor.audit_model(str(folder))} <= {"note"}


@pytest.mark.parametrize(
  ("content", "what"),
  [
    ("", "not JSON"),
    ("[]", "list where an object is wanted"),
    ('{"layers": 1000000000}', r"model\.json|between 1 and 10,000"),
    (None, "no finished checkpoint here"),
  ],
)
def test_a_checkpoint_that_cannot_be_read_is_an_error(folder, content, what):
  (folder / "tokenizer").mkdir()
  for path in folder.glob("*token*"):
    if path.is_file():
      path.rename(folder / "tokenizer" / path.name)
  config = dataclasses.asdict(models.config_of(folder))
  (folder / "config.json").unlink()
  (folder / "model.json").write_text(json.dumps(config) if content is None else content)
  assert [f for f in doctor.audit_model(str(folder)) if f.severity == "error" and re.search(what, f.what)]
