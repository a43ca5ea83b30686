r"""Reward and metric functions in the signatures of the trainers: 1.0 where the response answers the gold, else 0.0.

Every function takes whole responses; golds are bare answers or whole solutions (`\boxed{}`, `####`). All are safe in
threads, raise for nothing that a model writes, and take a bounded time for a response.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from skymath_jax.errors import UserError
from skymath_jax.grading.response import bare_gold, grade_response

GOLDS = ("answer", "solution", "ground_truth", "target", "gold")  # columns of a data set, the first that is there
MODE = "symbolic"


def trl_reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
  """For `GRPOTrainer(reward_funcs=trl_reward)` of TRL; None, which TRL leaves out, where a row has no gold.

  Args:
    completions: texts, or lists of messages, of which the last counts.
    columns: those of the data set; the gold is the first of `GOLDS` that is there.

  Raises:
    UserError: no column is a gold.
  """
  found = _golds(columns)
  return [None if gold in (None, "") else _score(gold, text) for gold, text in zip(found, completions, strict=True)]


def verl_score(
  data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **_: Any
) -> dict[str, Any]:
  """For verl's `custom_reward_function.path` and `.name`: the score, whether it is right, and what was read."""
  extracted, right = grade_response(bare_gold(str(ground_truth)), solution_str, MODE)
  return {"score": float(right), "acc": right, "pred": extracted or ""}


def tunix_reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
  """For `reward_fns` of Tunix; columns as for TRL, and no gold counts as 0.

  Raises:
    UserError: no column is a gold.
  """
  return [reward or 0.0 for reward in trl_reward(completions, **columns)]


def maxtext_reward(
  prompts: Sequence[Any], completions: Sequence[Any], answer: Sequence[Any], tmvp_config: Any = None, **_: Any
) -> list[float]:
  """For MaxText's reinforcement learning, in place of `check_numbers`: `answer` may be a JSON list of right answers.

  A right answer is worth `tmvp_config.reward_exact_answer` where there is a config, else 1.
  """
  worth = float(getattr(tmvp_config, "reward_exact_answer", 1.0))
  return [
    worth * max(_score(gold, text) for gold in _alternatives(golds))
    for golds, text in zip(answer, completions, strict=True)
  ]


def lm_eval_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
  """For `process_results` of an lm-evaluation-harness task whose metric is `exact_match`.

  Raises:
    UserError: the document has no gold.
  """
  return {"exact_match": _score(_golds(doc), results[0])}


def lm_eval_metric(references: Sequence[Any], predictions: Sequence[str], **_: Any) -> float:
  """For `metric: !function` of an lm-evaluation-harness task: the share of predictions that are right."""
  pairs = list(zip(references, predictions, strict=True))
  return sum(_score(gold, text) for gold, text in pairs) / max(1, len(pairs))


def _golds(columns: Mapping[str, Any]) -> Any:
  name = next((name for name in GOLDS if name in columns), None)
  if name is None:
    raise UserError(
      f"no column is a gold answer (there are: {', '.join(sorted(columns)) or 'none'})",
      remedy=f"name the column of the data set one of: {', '.join(GOLDS)}",
    )
  return columns[name]


def _alternatives(golds: Any) -> list[Any]:
  """The right answers that a list is, or a text that is a JSON list of texts and has at least one of them."""
  if isinstance(golds, str) and golds.startswith("["):
    try:
      golds = json.loads(golds)
    except ValueError:
      return [golds]
  return golds if isinstance(golds, list) and golds else [golds]


def _score(gold: Any, completion: Any) -> float:
  """1.0 or 0.0 for a completion that is a text, or a list of messages."""
  text = completion
  if isinstance(completion, Sequence) and not isinstance(completion, str):
    last = completion[-1] if completion else ""
    text = last.get("content") if isinstance(last, Mapping) else last
  return float(isinstance(text, str) and grade_response(bare_gold(str(gold)), text, MODE)[1])
