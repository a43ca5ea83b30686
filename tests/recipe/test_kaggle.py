"""Nine hours on a v5e-8: the recipe's own forecast for it, and its notebook up to the cell that needs the chips."""

import json
import re

import pytest

from skymath_jax import config, hardware
from skymath_jax.recipe import forecast, stages, train
from tests.support.processes import ROOT, environment, python

RECIPE, NOTEBOOK = (ROOT / "configs" / "kaggle_v5e_8.py", ROOT / "notebooks" / "kaggle_v5e_8.ipynb")
V5E_8 = hardware.find("v5e-8")
# Of GSM8K's and MATH's training problems: how many, characters of a question and of its solution, share of the hard
SEEDS = {"gsm8k": (7473, 235, 287, 0.37), "math": (7500, 210, 552, 0.53)}


def problems(path, count, question, solution, hard=0.0):
  """A file of so many problems of that length."""
  with path.open("w") as file:
    for i in range(count):
      row = {"question": f"{i} ".ljust(question, "x"), "solution": f"{i} ".ljust(solution, "y"), "answer": str(i)}
      file.write(json.dumps({**row, "level": 4 if i < hard * count else 2}) + "\n")
  return str(path)


@pytest.fixture(scope="module")
def changes(tmp_path_factory):
  """Stand-ins of the real data, which need no network."""
  folder = tmp_path_factory.mktemp("data")
  sources = tuple(problems(folder / f"{name}.jsonl", *facts) for name, facts in SEEDS.items())
  tests = tuple(problems(folder / f"test{count}.jsonl", count, 220, 400) for count in (1319, 500))
  return {"seeds.sources": sources, "curation.test_sets": tests, "evaluation.benchmarks": tests}


def test_all_stages_together_take_less_than_half_of_nine_hours(changes, tmp_path):
  experiment = config.changed(config.resolve(config.load(RECIPE, "v5e-8")), changes)
  with stages.opened(experiment, tmp_path / "run") as run:
    stages.recipe(experiment)[0].work(run)
    pace = forecast.Pace.of(V5E_8)
    rows = forecast.forecast(run, stages.recipe(experiment), pace)
    forecast.require(rows, run, pace)
  took = {row.stage: row.seconds for row in rows}
  assert {"synthesize stage 1", "train stage 2", "evaluate stage2"} <= took.keys()
  assert 2 * 3600 < sum(took.values()) < 4.5 * 3600, took  # the factor of two that forecasts are good to
  assert sum(row.disk for row in rows) < 20e9  # what a session keeps


def test_the_training_step_leaves_half_of_each_chip():
  recipe = config.resolve(config.load(RECIPE, "v5e-8"))
  assert train.step_bytes(recipe, V5E_8.devices) < 0.5 * V5E_8.chip.usable_bytes


def cells():
  """(source, tags) of the notebook's code cells."""
  notebook = json.loads(NOTEBOOK.read_text())
  assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 4)
  for cell in notebook["cells"]:
    if cell["cell_type"] == "code":
      assert cell["outputs"] == [] and cell["execution_count"] is None
      yield "".join(cell["source"]), cell["metadata"].get("tags", [])


def test_the_notebooks_cells_are_python_and_one_needs_the_accelerator():
  for source, _ in cells():
    compile(source, NOTEBOOK.name, "exec")
  assert [source for source, tags in cells() if "accelerator" in tags] == ['skymath("run")']


@pytest.mark.slow
def test_the_notebook_runs_up_to_the_accelerator(changes, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("PYTHONPATH", str(ROOT))
  names = {}
  for source, tags in cells():
    if "accelerator" in tags:
      break
    exec(compile(source, NOTEBOOK.name, "exec"), names)
    names["MORE"] = [f"--config.{key}={value}" for key, value in changes.items()]
  said = capsys.readouterr().out
  assert "to be done, on v5e-8" in said and "train stage 2" in said
  assert 2 < float(re.search(r"all together about ([\d.]+) hours", said)[1]) < 4.5
  assert [path.name for path in tmp_path.iterdir()] == ["runs"]


ANSWERS = """
  import json, pathlib, sys
  import jax
  from skymath_jax import config
  from skymath_jax.generation import Request, Sampling
  from skymath_jax.recipe import evaluate
  from skymath_jax.recipe.teacher import Teacher

  there = {"teacher.backend": "local", "evaluation.limit": 8, "evaluation.max_tokens": 24, "serving.max_length": 256}
  experiment = config.changed(config.resolve(config.load(pathlib.Path(sys.argv[1]))), there)
  evaluate.evaluate_model(experiment, sys.argv[2], experiment.model.path, experiment.evaluation.benchmarks)
  teacher = Teacher(experiment.teacher, experiment.serving, "float32", sys.argv[2]).client()
  assert (teacher.engine.mesh is None) == (jax.device_count() == 1)
  requests = [Request(id=str(i), prompt=f"{i} + 3 =", sampling=Sampling(max_tokens=16)) for i in range(4)]
  print(json.dumps([response.text for response in teacher.generate_all(requests)]))
"""


@pytest.mark.slow
def test_a_teacher_in_the_run_and_evaluation_take_all_devices_and_answer_as_on_one(tmp_path):
  said = {}
  for devices in (1, 8):
    folder = tmp_path / str(devices)
    done = python(ANSWERS, ROOT / "configs" / "quickstart.py", folder, env=environment(devices))
    assert done.returncode == 0, done.stderr[-3000:]
    predictions = [json.loads(line)["response"] for line in (folder / "predictions.jsonl").read_text().splitlines()]
    said[devices] = (json.loads(done.stdout.splitlines()[-1]), sorted(predictions))
  assert len(said[1][0]) == 4 and len(said[1][1]) == 8
  assert said[1] == said[8]
