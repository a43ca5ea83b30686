"""What preflight compiles is what training runs; and, slow, every shipped TPU recipe compiled for its slice."""

import dataclasses
import itertools
import json
import subprocess
import sys

import pytest

from skymath_jax import config, hardware
from skymath_jax.preflight import check, train
from skymath_jax.recipe.train import step_bytes, step_of
from tests.support.processes import ROOT, environment, python

SAME_PROGRAM = """
  import dataclasses, sys
  from tests.support.doubles import CONFIG
  from tests.support.short_run import SETTINGS, train as run_training
  from skymath_jax.preflight import train
  from skymath_jax.sharding import make_mesh
  from skymath_jax.training import step

  class Seen(Exception):
    pass

  original = step.sharded

  def spy(places):
    def run(*arguments, **options):
      raise Seen(original(places).lower(*arguments, **options).as_text())
    return run

  for sizes, micro_batches in (({"fsdp": 8}, 1), ({"fsdp": 4, "tensor": 2}, 2)):
    mesh, settings = make_mesh(**sizes), dataclasses.replace(SETTINGS, rows=16, micro_batches=micro_batches)
    step.sharded = spy
    try:
      run_training(f"{sys.argv[1]}/{micro_batches}", rows=16, micro_batches=micro_batches, mesh=mesh)
      raise AssertionError("the loop did not call the step")
    except Seen as seen:
      trained = str(seen)
    step.sharded = original
    planned = train.lower(CONFIG, settings, mesh).as_text()
    assert len(trained) > 10_000 and trained == planned, (sizes, micro_batches)
  print("same")
"""


def test_the_compiled_function_is_the_one_that_training_runs(tmp_path):
  """StableHLO of the step, text for text, on two meshes of eight fake devices."""
  done = python(SAME_PROGRAM, tmp_path, env=environment(8))
  assert done.stdout.strip() == "same", done.stderr[-3000:]


def test_the_compilers_words_for_too_little_memory_are_understood():
  spoken = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 19.16G of 15.75G hbm. Exceeded by 3.4G."
  assert train.bytes_needed(spoken) == int(19.16 * hardware.GIB)
  other = "RESOURCE_EXHAUSTED: … total memory required for HLO temporaries (447.06G) exceeds available HBM (30.75G)."
  assert train.bytes_needed(other) == int(447.06 * hardware.GIB)
  assert train.bytes_needed("INVALID_ARGUMENT: Mosaic failed") is None


MODELS = ("llama2_7b", "mistral_7b", "deepseekmath_7b")
TODAY = ("qwen3_8b", "llama3_1_8b", "olmo3_7b", "gemma3_4b")


def preflight(*flags, timeout=1500):
  command = [sys.executable, "-m", "skymath_jax.cli", "preflight", *flags]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
  assert done.stdout.startswith("{"), done.stderr[-3000:]
  return done.returncode, json.loads(done.stdout), done.stderr


def recipe_of(model, machine):
  return config.resolve(config.load(ROOT / "configs" / f"skywork_{model}.py", machine))


@pytest.mark.parametrize("machine", ["h100", "h200", "h100-8", "h200-8"])
@pytest.mark.parametrize("model", MODELS + TODAY)
def test_every_7b_recipe_fits_gpus_by_the_estimate(model, machine):
  recipe = recipe_of(model, machine)
  shape, settings = step_of(recipe)
  report = check(shape, settings, dataclasses.asdict(recipe.mesh), hardware.find(machine))
  assert report.fits and report.method == "estimated"


@pytest.mark.parametrize("machine", ["v5e-8", "v6e-8", "v5p-8", "tpu7x-8", "v5e-16", "v4-32", "v5p-16"])
@pytest.mark.parametrize("model", TODAY)
def test_every_recipe_for_today_fits_slices_by_the_estimate(model, machine):
  """A twentieth is left for what arithmetic does not see; what the compiler says is in benchmarks/results/models.md."""
  target = hardware.find(machine)
  assert step_bytes(recipe_of(model, machine), target.devices) < 0.95 * target.chip.usable_bytes


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
  ("model", "machine"),
  [
    *itertools.product(MODELS, ("v4-32", "v5e-16", "v5p-16", "tpu7x-8")),
    *itertools.product(TODAY, ("v5e-8", "v6e-8", "v5p-8", "tpu7x-8")),
  ],
)
def test_every_7b_recipe_compiles_for_slices_and_fits(model, machine):
  """A minute or two of compiling each, one after another: libtpu takes both cores."""
  code, report, errors = preflight(f"--config=configs/skywork_{model}.py:{machine}", "--advise=false")
  assert code == 0 and report["fits"] and report["method"] == "compiled", errors[-2000:]
  assert report["peak_bytes_per_chip"] < 0.95 * report["usable_bytes_per_chip"]
  states = sum(report["breakdown"][key] for key in ("parameters", "first_moment", "second_moment"))
  assert states < report["peak_bytes_per_chip"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_slice_that_is_too_small_is_reported_with_the_remedy():
  code, report, errors = preflight("--config=configs/skywork_llama2_7b.py", "--topology=v5e-4")
  assert code == 1 and not report["fits"]
  assert report["peak_bytes_per_chip"] > report["usable_bytes_per_chip"]
  assert report["advice"][0].startswith("use v5e-16 --config.mesh.tensor=2: ") and report["advice"][0] in errors


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_slices_hold_copies_of_the_weights_and_share_the_rows():
  """`data` runs over the slow network: each slice has all weights, half the rows, and the gradients are summed."""
  flags = ["--config.training.rows=16", "--advise=false", "--slices=2", "--config.mesh.data=2"]
  code, both, errors = preflight("--config=configs/skywork_llama2_7b.py:v5e-16", *flags)
  assert code == 0 and both["fits"] and both["chips"] == 32, errors[-2000:]
  assert both["breakdown"]["parameters"] == pytest.approx(4 * 6.74e9 / 16, rel=0.01)
  assert both["bounds"]["slice_network"] > 0
