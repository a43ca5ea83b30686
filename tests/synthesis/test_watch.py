"""A pass whose results are mostly of no use ends early and says why; one with bad luck goes on."""

import pytest

from skymath_jax.errors import UserError
from skymath_jax.generation.types import RequestRejected, Response
from skymath_jax.synthesis import ResponseStore
from skymath_jax.testing.teacher import ScriptedTeacher, reply
from tests.support.synthesis import Flaky, run_pass, toy_problems

RUNS = {"answer_augmentation": 2.0}


class Says(ScriptedTeacher):
  """Answers with these fields."""

  def __init__(self, **fields):
    super().__init__()
    self.fields = fields

  async def complete(self, request):
    await super().complete(request)
    return Response(
      **{"id": request.id, "text": "", "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1}
      | self.fields
    )


@pytest.mark.parametrize(
  ("fields", "said"),
  [
    ({"thought": "It is 8."}, r"only_thought .*It is 8.*\"answer\": \"reasoning_content\""),
    ({"text": "It is", "finish_reason": "length"}, "truncated .*max_tokens"),
    ({"text": "It is", "finish_reason": "content_filter"}, "unfinished .*filters"),
    ({"text": "It is\x00 8\nThe answer is 8"}, "control_characters .*special tokens"),
    ({"text": "It is 8"}, "no_answer_line .*few_shot"),
    ({}, "empty .*name the field"),
  ],
)
def test_a_pass_without_use_stops_early_and_says_why(tmp_path, fields, said):
  teacher = Says(**fields)
  with ResponseStore(tmp_path / "r.sqlite") as store, pytest.raises(UserError, match=said):
    run_pass(store, teacher, toy_problems(500), RUNS, max_rejected=0.5)
  assert len(teacher.requests) < 150


def test_the_share_is_that_of_the_whole_pass(tmp_path):
  def sometimes(prompt, seed):
    return reply(prompt, seed) if seed % 100 < 55 else "It is 8"

  with ResponseStore(tmp_path / "r.sqlite") as store:
    result = run_pass(store, ScriptedTeacher(sometimes), toy_problems(200), RUNS, max_rejected=0.5)
    assert 100 < len(result.rejected) < 200
    with pytest.raises(UserError, match=r"no_answer_line .* more than config.synthesis.max_rejected \(0.3\)"):
      run_pass(store, ScriptedTeacher(answer=None), toy_problems(200), RUNS, max_rejected=0.3)


def test_prompts_that_are_refused_again_at_a_resume_do_not_end_the_run(tmp_path):
  teacher = Flaky("apples", RequestRejected("refused"), answer=lambda prompt, seed: "5")
  with ResponseStore(tmp_path / "r.sqlite") as store:
    result = run_pass(store, teacher, toy_problems(50), RUNS)
  assert {rejected.reason for rejected in result.rejected} == {"error: refused."} and len(result.rejected) == 100
