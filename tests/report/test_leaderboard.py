"""The leaderboard: every evaluation below a folder, what compares, pairs, and texts that are not trusted."""

import json
import random
import re

import pytest
from etils import epath

from skymath_jax import evaluation
from skymath_jax.cli import main as cli
from skymath_jax.errors import UserError
from skymath_jax.evaluation.template import template
from skymath_jax.generation.types import Response, Sampling
from skymath_jax.records import Problem
from skymath_jax.report import leaderboard

PROBLEMS = [Problem.create("svamp", f"What is {n} + {n}?", answer=str(2 * n)) for n in range(30)]


class Model:
  """Right with a chance of `skill`, by the draw of question and seed; thinks aloud if it is told to."""

  def __init__(self, model_id, skill, thought=""):
    self.model_id = model_id
    self.skill = skill
    self.thought = thought

  async def generate(self, requests):
    for request in requests:
      n = int(re.findall(r"\d+", request.prompt)[0])
      right = random.Random(f"{n} {request.sampling.seed}").random() < self.skill
      text = f"{self.thought}The answer is {2 * n if right else 1}"
      yield Response(id=request.id, text=text, finish_reason="stop", prompt_tokens=9, completion_tokens=7)


def run(folder, model, skill, name, *, samples=1, temperature=0.0, thought="", how="raw"):
  sampling = Sampling(temperature=temperature, max_tokens=2048)
  options = {"template": template(how, chat="1234"), "mode": "strict", "sampling": sampling, "samples": samples}
  return evaluation.evaluate(Model(model, skill, thought), PROBLEMS, folder, name=name, **options)


@pytest.fixture
def folder(tmp_path):
  run(tmp_path / "small" / "evaluation" / "svamp", "small@1", 0.4, "svamp")
  run(tmp_path / "large" / "evaluation" / "svamp", "large@1", 0.8, "svamp")
  run(tmp_path / "large" / "evaluation" / "aime24", "large@1", 0.3, "aime24", samples=4, temperature=0.6)
  run(
    tmp_path / "chat",
    "<script>alert(1)</script>\u202e",
    0.6,
    "mine.jsonl",
    thought="<think>So?</think>",
    how="chat:raw",
  )
  (tmp_path / "summary.json").write_text('{"accuracy": {"base": {"all": 0.5}}}')  # of a run
  (tmp_path / "small" / "summary.json").write_text("{")
  return tmp_path


def test_a_row_is_a_model_and_a_way_of_asking_and_what_does_not_compare_is_marked(folder, capsys):
  assert cli.call(["leaderboard", str(folder)]) == 0
  page = (folder / leaderboard.PAGE).read_text()
  assert "4 evaluations" in page and "Suite outside" in page and "Suite competition" in page
  assert page.index("large@1") < page.index("small@1")
  assert "30 of 1,000 problems" in page and "4 of 16 samples" in page
  assert "Other benchmarks" in page and "chat:raw · strict · greedy" in page and "chat template 1234" in page
  assert re.search(r"avg</td><td>@4 .*pass \(unbiased\)</td><td>@1 .*@2 .*@4 ", page, re.DOTALL)
  assert "30 with a thought of 3 characters" in page
  assert "chal-680" in page and "arXiv:2103.07191" in page  # what is known to be wrong in the set


def test_pairs_are_compared_problem_by_problem(folder):
  page = leaderboard.render(epath.Path(folder))
  found = evaluation.compare(folder / "small" / "evaluation" / "svamp", folder / "large" / "evaluation" / "svamp")
  assert f"{100 * found['difference']:+.1f}" in page and f"{found['p']:.3f}" in page
  assert found["gained"] > found["lost"]


def test_texts_of_the_files_are_escaped_and_bad_files_are_noted(folder):
  page = leaderboard.render(epath.Path(folder))
  assert "<script>" not in page and "&lt;script&gt;" in page and "\u202e" not in page
  assert "small/summary.json" in page  # not JSON


def test_the_same_evaluation_done_twice_has_two_rows(folder):
  run(folder / "again", "small@1", 0.4, "svamp")
  page = leaderboard.render(epath.Path(folder))
  table = page[page.index("Suite outside") : page.index("</table>", page.index("Suite outside"))]
  assert table.count("small@1") == 2


def test_a_folder_without_evaluations_is_said(tmp_path, capsys):
  (tmp_path / "summary.json").write_text(json.dumps({"name": "x"}))
  with pytest.raises(UserError, match="no evaluation below"):
    leaderboard.write(tmp_path)
  assert cli.call(["leaderboard"]) == 2
  assert "--folder is missing" in capsys.readouterr().err
