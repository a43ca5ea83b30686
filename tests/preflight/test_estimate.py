"""Targets, the arithmetic beside measured rows, and the verdict for machines that nothing is compiled for."""

import dataclasses
import json

import jax
import pytest
from flax import nnx

from skymath_jax import hardware, preflight, sharding
from skymath_jax.cli import main as cli
from skymath_jax.config import Training
from skymath_jax.models import Decoder, lora
from skymath_jax.models.lora import Adapters
from skymath_jax.models.published import LLAMA_2_7B
from skymath_jax.preflight import estimate
from skymath_jax.preflight.check import changes, spread
from tests.support.doubles import decoder

LLAMA = dataclasses.replace(LLAMA_2_7B, dtype="bfloat16")
ONE = {"data": 1, "fsdp": 1, "tensor": 1}

# Measured on one H200: the compiler's plan in GiB for (remat, rows of 2,048, weights, first moment)
MEASURED = [
  ("wide", 10, "bfloat16", "bfloat16", 111),
  ("wide", 6, "float32", "bfloat16", 124),
  ("full", 16, "float32", "bfloat16", 102),
  ("full", 8, "float32", "float32", 107),
  ("none", 4, "bfloat16", "bfloat16", 110),
]


@pytest.mark.parametrize(("remat", "rows", "weights", "mu", "gib"), MEASURED)
def test_estimated_memory_is_within_a_tenth_of_what_was_measured(remat, rows, weights, mu, gib):
  config = dataclasses.replace(LLAMA, remat=remat, param_dtype=weights)
  settings = Training(rows=rows, mu_dtype=mu, loss_chunk=4096)
  mine = estimate.share(settings, sharding.abstract_mesh(count=1))
  assert sum(estimate.breakdown(config, settings, mine).values()) / hardware.GIB == pytest.approx(gib, rel=0.1)


def test_estimated_time_is_a_bound_that_the_best_measured_step_comes_near():
  """14,418 tokens/s with 10 rows in bfloat16 was the best plain JAX step on one H200."""
  config = dataclasses.replace(LLAMA, remat="wide", param_dtype="bfloat16")
  settings = Training(rows=10)
  mine = estimate.share(settings, sharding.abstract_mesh(count=1))
  bound = estimate.step_seconds(config, settings, mine, hardware.find("h200-1"))["step"]
  measured = 10 * 2048 / 14_418
  assert 0.75 * measured < bound < 1.05 * measured


def test_a_mesh_divides_states_and_tokens():
  settings = Training(rows=8, micro_batches=2)
  alone = estimate.share(settings, sharding.abstract_mesh(count=1))
  both = estimate.share(settings, sharding.abstract_mesh(fsdp=4, tensor=2, count=8))
  assert (alone.shards, both.shards, both.tensor) == (1, 8, 2)
  assert alone.tokens == 4 * both.tokens == 4 * 2048
  indivisible = estimate.share(settings, sharding.abstract_mesh(fsdp=8, count=8))
  assert indivisible.tokens == alone.tokens  # four rows on eight devices: each computes all


def test_what_does_not_fit_comes_with_the_smallest_change_that_does():
  config, settings = dataclasses.replace(LLAMA, remat="wide"), Training(rows=8, mu_dtype="bfloat16")
  report = preflight.check(config, settings, ONE, hardware.find("h200-1"))
  assert (report.fits, report.method) == (False, "estimated")
  assert report.advice[0].startswith("set --config.training.micro_batches=8: then it needs ")
  eased = dataclasses.replace(settings, micro_batches=8)
  assert preflight.check(config, eased, ONE, hardware.find("h200-1")).fits
  assert not preflight.check(config, dataclasses.replace(settings, micro_batches=2), ONE, hardware.find("h200-1")).fits
  larger = preflight.check(config, settings, {**ONE, "fsdp": -1}, hardware.find("h100-1"))
  assert larger.advice[0].startswith("use h100-8: there it needs ")


def test_changes_go_from_cheap_to_dear():
  found = list(changes(dataclasses.replace(LLAMA, remat="wide"), Training(rows=8), 2))
  assert found[0] == {"training.micro_batches": 2}
  assert found[-1] == {"training.micro_batches": 4, "model.remat": "full", "training.mu_dtype": "bfloat16"}


def test_a_mesh_is_spread_until_the_rows_divide():
  settings = Training(rows=8)
  assert spread(LLAMA, settings, {**ONE, "fsdp": -1}, 8) == {}
  assert spread(LLAMA, settings, {**ONE, "fsdp": -1}, 32) == {"mesh.tensor": 4}
  assert spread(LLAMA, settings, {**ONE, "fsdp": 8, "tensor": 2}, 32) == {"mesh.tensor": 4}
  assert spread(LLAMA, settings, {"data": 2, "fsdp": 8, "tensor": 2}, 32) == {"mesh.tensor": 4, "mesh.fsdp": -1}
  assert spread(LLAMA, dataclasses.replace(settings, micro_batches=2), {**ONE, "fsdp": -1}, 8) == {"mesh.tensor": 2}
  assert spread(LLAMA, dataclasses.replace(settings, rows=7), {**ONE, "fsdp": -1}, 256) == {}  # nothing helps


def test_chips_that_would_all_compute_the_same_are_told():
  report = preflight.check(LLAMA, Training(rows=4), {**ONE, "fsdp": -1}, hardware.find("h100-8"))
  assert report.fits and "each computes all of it: set --config.mesh.tensor=2" in report.advice[1]
  few_heads = dataclasses.replace(LLAMA, kv_heads=4)
  odd = preflight.check(few_heads, Training(rows=3), {**ONE, "fsdp": -1}, hardware.find("h100-8"))
  assert odd.fits and "make config.training.rows a multiple of 8" in odd.advice[1]


def test_a_machine_must_be_named_and_known(capsys):
  assert cli.call(["preflight", "--config=configs/skywork_llama2_7b.py"]) == 2
  assert "--config=FILE.py:HARDWARE or --topology" in capsys.readouterr().err
  assert cli.call(["preflight", "--config=configs/skywork_llama2_7b.py:cpu", "--advise=false"]) == 1
  assert "its memory is not known: cpu" in capsys.readouterr().err
  assert cli.call(["preflight", "--config=configs/skywork_llama2_7b.py:h200", "--advise=false"]) == 0
  assert json.loads(capsys.readouterr().out)["topology"] == "h200"


def test_the_verb_prints_and_leaves_the_report(tmp_path, capsys):
  config = tmp_path / "mine.py"
  lines = ("from skymath_jax.config import base", "def get_config():", "  return base()")
  config.write_text("\n".join(lines))
  command = ["preflight", f"--config={config}", "--topology=h200-1", f"--workdir={tmp_path}", "--advise=false"]
  command.append("--config.model.path=x/Llama-2-7b-hf")
  assert cli.call([*command, "--config.training.mu_dtype=bfloat16"]) == 0
  report = json.loads((tmp_path / "preflight.json").read_text())
  assert report == json.loads(capsys.readouterr().out)
  assert report["fits"] and report["peak_bytes_per_chip"] == sum(report["breakdown"].values())
  assert set(report) >= {
    "topology", "chips", "fits", "peak_bytes_per_chip", "usable_bytes_per_chip", "breakdown", "compile_seconds",
    "estimated_step_seconds", "advice",
  }  # fmt: skip
  assert cli.call([*command, "--config.model.remat=none"]) == 1
  assert cli.call([*command, "--config.model.path=x/Unknown-7b"]) == 1
  assert "use one of the published" in capsys.readouterr().err


@pytest.mark.parametrize(("base", "gib"), [("", 14.6), ("int8", 9.1), ("nf4", 6.1)])
def test_adapters_of_a_7b_model_fit_a_card_of_24_gb(base, gib):
  config = dataclasses.replace(LLAMA, remat="full", param_dtype="bfloat16")
  settings, target = Training(rows=8, micro_batches=8), hardware.find("gpu24")
  assert not preflight.check(config, settings, ONE, target, advise=False).fits
  report = preflight.check(config, settings, ONE, target, adapters=Adapters(rank=16, alpha=32.0, base=base))
  assert report.fits and report.peak_bytes_per_chip / hardware.GIB == pytest.approx(gib, abs=0.1)
  assert report.advice[-1].startswith("training all weights would take 89.1 GiB a chip")


@pytest.mark.parametrize("base", ["", "int8", "nf4"])
def test_bytes_of_adapted_weights_are_those_of_the_arrays(base):
  config, adapters = decoder(param_dtype="bfloat16", embed=64).config, Adapters(rank=4, alpha=8.0, base=base)
  _, trained, frozen = lora.split(nnx.eval_shape(lambda: lora.attach(Decoder(config), adapters)))
  held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(frozen))
  assert held == estimate.frozen_bytes(config, adapters)
  assert sum(x.size for x in jax.tree.leaves(trained)) == adapters.rank * estimate.inputs_and_outputs(config)
