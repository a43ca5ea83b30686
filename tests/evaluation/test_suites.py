"""Every suite, from samples in the published format to a summary: with a scripted model, and with the micro model."""

import dataclasses

import pytest
from etils import epath

from skymath_jax import config as config_lib
from skymath_jax import evaluation, records
from skymath_jax.evaluation.template import template
from skymath_jax.generation.types import Response, Sampling
from skymath_jax.problems import catalog, published, sources, suites
from skymath_jax.recipe.evaluate import evaluate_apart
from tests.support import published_sets

MATH = [
  {"problem": "Find $3^2$.", "solution": "$\\boxed{9}$", "level": "Level 1", "type": "Algebra"},
  {"problem": "Find $\\frac{6}{4}$.", "solution": "$\\boxed{\\frac{3}{2}}$", "level": "Level 2", "type": "Prealgebra"},
]
OLYMPIAD = {"context": None, "question": "Find $2^5$.", "solution": ["32"], "final_answer": ["$32$"], "subfield": "A"}
OURS = {  # test sets that are among the sources of seeds, too: class and sample
  "gsm8k:test": (sources.Gsm8k, published_sets.GSM),
  "math:test": (sources.Math, MATH),
  "math500": (sources.Math, MATH),
  "olympiadbench": (sources.Olympiadbench, [OLYMPIAD]),
}


@pytest.fixture
def data(tmp_path, monkeypatch):
  """A folder with the sample of every published set, whose checksums count for nothing."""
  for name, found in published.SETS.items():
    files = {split: tuple(dataclasses.replace(f, sha256="", blob="") for f in fs) for split, fs in found.files.items()}
    monkeypatch.setitem(published.SETS, name, dataclasses.replace(found, files=files))
    published_sets.write(tmp_path, name, [file.name for paths in files.values() for file in paths])
  return tmp_path


class Knowing:
  """Gives the right answer in a box, the first problem of each set excepted."""

  model_id = "knowing@1"

  def __init__(self, problems):
    self.answers = {problem.question: problem.answer for problem in problems[1:]}

  async def generate(self, requests):
    for request in requests:
      known = next((answer for question, answer in self.answers.items() if question in request.prompt), "no idea")
      yield Response(
        id=request.id, text=f"So it is \\boxed{{{known}}}.", finish_reason="stop", prompt_tokens=9, completion_tokens=9
      )


def sample(name, data):
  if name not in OURS:
    return catalog.load(name, data_dir=data)
  source, rows = OURS[name]
  records.write_lines(data / "rows.jsonl", rows)
  return list(source.parse(data / "rows.jsonl"))


@pytest.mark.parametrize("suite", suites.SUITES)
def test_a_suites_samples_are_asked_and_graded(data, tmp_path, suite):
  for name in suites.expanded([suite]):
    problems = sample(name, data)
    how = template("chat", chat="1", frame=suites.frame_of(name))
    options = {"template": how, "mode": "symbolic", "sampling": Sampling(), "samples": 1, "name": name}
    summary = evaluation.evaluate(Knowing(problems), problems, tmp_path / name, **options)
    known = {problem.question for problem in problems[1:]}  # aime25's one problem stands for both halves
    assert summary["correct"] == sum(problem.question in known for problem in problems), name
    assert summary["prompt"]["name"].startswith("chat:ask/boxed")


@pytest.mark.slow
def test_the_micro_model_is_evaluated_on_the_samples_of_all_suites(data, tmp_path):
  names = tuple(name for name in suites.expanded(suites.SUITES) if name not in OURS)
  config = config_lib.changed(
    config_lib.Experiment(),
    {
      "seeds.data_dir": str(data), "evaluation.benchmarks": names, "evaluation.max_tokens": 24,
      "evaluation.mode": "symbolic", "model.dtype": "float32", "serving.slots": 4, "serving.max_length": 512,
    },
  )  # fmt: skip
  found = evaluate_apart(config, epath.Path(tmp_path) / "out", "asset:micro_base")
  assert found.keys() == set(names)
  for name, summary in found.items():
    assert summary["accuracy"]["n"] == len(catalog.load(name, data_dir=data))
    assert (tmp_path / "out" / evaluation.folder_name(name) / "summary.json").exists()
