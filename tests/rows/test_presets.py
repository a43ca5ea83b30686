"""Each public set, a few rows in the layout in which it is published: found by its short name, read as pairs."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skymath_jax import hub
from skymath_jax.rows.presets import PRESETS
from skymath_jax.sft import pairs
from tests.support import hub as fake

THOUGHT = "<think>so</think>r"
TALK = [{"from": "human", "value": "q"}, {"from": "gpt", "value": THOUGHT}]
DEEP = {"question": "q", "final_answer": "5", "difficulty": 6.5, "topic": "t"}
REASONING = {"problem": "q", "generated_solution": THOUGHT, "expected_answer": "5", "inference_mode": "cot"}
PUBLISHED = {
  "metamathqa": (
    "MetaMathQA-395K.json",
    [{"type": "MATH_AnsAug", "query": "q", "original_question": "o", "response": "r"}],
    [("q", "r")],
  ),
  "numinamath-cot": (
    "data/train-00000-of-00005.parquet",
    [{"source": "aops", "problem": "q", "solution": "r", "messages": [{"role": "user", "content": "other"}]}],
    [("q", "r")],
  ),
  "openmathinstruct-2": (
    "data/train_1M-00000-of-00001.parquet",
    [{"problem": "q", "generated_solution": "r", "expected_answer": "5", "problem_source": "math"}],
    [("q", "r")],
  ),
  "openmathreasoning": (
    "data/cot-00000-of-00144.parquet",
    [{**REASONING, "problem_type": kind} for kind in ("has_answer_extracted", "no_answer_extracted")],
    [("q", THOUGHT)],
  ),
  "openthoughts3": (
    "data/train-00000-of-00120.parquet",
    [{"difficulty": None, "source": "s", "domain": domain, "conversations": TALK} for domain in ("math", "code")],
    [("q", THOUGHT)],
  ),
  "deepmath-103k": (
    "data/train-00000-of-00010.parquet",
    [{**DEEP, "r1_solution_1": "r", "r1_solution_2": "", "r1_solution_3": "s"}],
    [("q", "r"), ("q", "s")],
  ),
  "orca-math": ("data/train-00000-of-00001.parquet", [{"question": "q", "answer": "r"}], [("q", "r")]),
}


def test_every_preset_is_tried_here():
  assert PUBLISHED.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_a_public_set_is_read_as_pairs(name, tmp_path, monkeypatch, capfd):
  file, rows, expected = PUBLISHED[name]
  path = tmp_path / "datasets" / PRESETS[name].repository / file
  path.parent.mkdir(parents=True)
  if file.endswith(".parquet"):
    pq.write_table(pa.Table.from_pylist(rows), path)
    for other in ("test", "train_2M", "tir"):  # what else lies there is not read
      pq.write_table(pa.Table.from_pylist(rows), path.with_name(f"{other}-00000-of-00001.parquet"))
  else:
    path.write_text(json.dumps(rows))
  hub.files_of.cache_clear()
  with fake.serving(tmp_path, monkeypatch):
    found = pairs.open(name)
    found.show()
    assert [(row["query"], row["response"]) for row in found] == expected
  assert f"licence {PRESETS[name].licence}; {PRESETS[name].citation}" in capfd.readouterr().err
