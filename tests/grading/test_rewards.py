"""Reward and metric functions in the signatures that the trainers call, and the package that the wheel holds."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from skymath_jax.errors import UserError
from skymath_jax.grading import rewards

WHEEL = Path(__file__).parents[2] / "wheels" / "grading"
RIGHT, WRONG = "We get 6/8.\nThe answer is 0.75.", "so \\boxed{\\frac{3}{5}}"


def test_trl_calls_with_texts_or_messages_and_the_columns_of_the_data_set():
  texts = [RIGHT, WRONG, RIGHT]
  chats = [[{"role": "assistant", "content": text}] for text in texts]
  golds = ["3/4", "#### 3/4", None]
  for completions in (texts, chats):
    found = rewards.trl_reward(
      prompts=["p"] * 3, completions=completions, completion_ids=[[1]] * 3, solution=golds, trainer_state=None
    )
    assert found == [1.0, 0.0, None]
  assert rewards.trl_reward(completions=[[]], answer=["1"]) == [0.0]
  with pytest.raises(UserError, match="level"):
    rewards.trl_reward(completions=[RIGHT], level=[3])


def test_verl_calls_one_response_at_a_time_and_reads_the_score_of_a_dict():
  found = rewards.verl_score(data_source="math", solution_str=RIGHT, ground_truth="3/4", extra_info={"index": 0})
  assert found == {"score": 1.0, "acc": True, "pred": "0.75"}
  assert rewards.verl_score("math", "I do not know", "3/4") == {"score": 0.0, "acc": False, "pred": ""}
  assert rewards.verl_score("math", "\\boxed{7}", 7)["score"] == 1.0


def test_tunix_calls_with_prompts_completions_and_columns():
  found = rewards.tunix_reward(prompts=["p", "p"], completions=[RIGHT, WRONG], answer=["3/4", None], question=["q"] * 2)
  assert found == [1.0, 0.0]


def test_maxtext_calls_with_json_lists_of_right_answers_and_its_config():
  config = SimpleNamespace(reward_exact_answer=5.0)
  golds = [json.dumps(["0.7", "3/4"]), "[3, 5)", '["3/4"]']
  texts = [RIGHT, "<answer>[3,5)</answer>", WRONG]
  found = rewards.maxtext_reward(["p"] * 3, texts, golds, config, question=["q"] * 3)
  assert found == [5.0, 5.0, 0.0]
  assert rewards.maxtext_reward(["p"], [RIGHT], ["3/4"]) == [1.0]


def test_lm_evaluation_harness_calls_process_results_and_a_metric():
  assert rewards.lm_eval_results({"problem": "?", "solution": "so \\boxed{0.75}"}, [RIGHT]) == {"exact_match": 1.0}
  assert rewards.lm_eval_metric(references=["3/4"], predictions=[RIGHT], ignore_case=True) == 1.0
  assert rewards.lm_eval_metric(references=["3/4", "1"], predictions=[WRONG, "#### 1"]) == 0.5
  with pytest.raises(UserError, match="gold"):
    rewards.lm_eval_results({"problem": "?"}, [RIGHT])


ALONE = r"""
import sys
sys.path.insert(0, sys.argv[1])
import skymath_grading as g
assert not {"jax", "skymath_jax", "etils", "numpy"} & {name.split(".")[0] for name in sys.modules}
assert g.grade_response("3/4", sys.argv[2], "symbolic") == ("0.75", True)
assert g.verl_score("math", sys.argv[2], "3/4")["score"] == 1.0 and not g.equivalent("5", "9**9**9**9", "symbolic")
"""


def test_the_wheels_package_works_without_ours_and_without_jax(tmp_path):
  for name, text in runpy.run_path(str(WHEEL / "subset.py"))["sources"]().items():
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  (tmp_path / "skymath_grading" / "__init__.py").write_bytes((WHEEL / "skymath_grading/__init__.py").read_bytes())
  command = [sys.executable, "-I", "-c", ALONE, str(tmp_path), RIGHT]
  done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
  assert done.returncode == 0, done.stderr
