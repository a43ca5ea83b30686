import dataclasses

import pytest

from skymath_jax.engine import memory
from skymath_jax.engine.plan import fixed_bytes, planned, slot_bytes
from skymath_jax.engine.types import EngineSettings
from skymath_jax.errors import UserError
from skymath_jax.hardware import GIB
from skymath_jax.models import DecoderConfig

SMALL = DecoderConfig(  # SmolLM2-135M
  vocab_size=49_152, embed=576, layers=30, heads=9, kv_heads=3, head_dim=64, mlp=1536, max_positions=8192,
  tie_embeddings=True, dtype="bfloat16", param_dtype="bfloat16",
)  # fmt: skip
MOST = EngineSettings(slots=128, max_length=4096, steps_per_call=16)
PLENTY = 10**12


def test_slots_and_length_are_what_the_work_needs():
  plan = planned(MOST, SMALL, have=PLENTY, requests=16, tokens=700)
  assert (plan.slots, plan.max_length) == (16, 768)
  assert fixed_bytes(SMALL, plan) + plan.slots * slot_bytes(SMALL, plan) < 1.3 * GIB
  assert planned(MOST, SMALL, have=PLENTY, requests=9, tokens=700).slots == 16  # sizes that others have compiled


def test_settings_are_upper_bounds_and_serve_where_nobody_knows_the_work():
  assert planned(MOST, SMALL, have=PLENTY) == MOST
  assert planned(MOST, SMALL, have=None, requests=10**6, tokens=10**6) == MOST
  short = dataclasses.replace(SMALL, max_positions=1024)
  assert planned(MOST, short, have=PLENTY).max_length == 1024


def test_fewer_slots_where_memory_ends():
  plan = planned(MOST, SMALL, have=6 * GIB)
  assert 1 < plan.slots < 128 and plan.max_length == 4096
  assert fixed_bytes(SMALL, plan) + plan.slots * slot_bytes(SMALL, plan) < 6 * GIB


def test_what_cannot_fit_is_refused_with_the_figure_and_the_remedy():
  with pytest.raises(UserError, match=r"8\.\d GiB of memory, and 3\.\d can be had.*at most \d+ tokens"):
    planned(
      dataclasses.replace(MOST, max_length=65_536), dataclasses.replace(SMALL, max_positions=65_536), have=5 * GIB
    )
  wide = dataclasses.replace(SMALL, embed=8192, mlp=28_672, layers=80, param_dtype="float32", dtype="float32")
  with pytest.raises(UserError, match=r"take the model in bfloat16, a smaller model, or a machine with \d+ GiB free"):
    planned(MOST, wide, have=24 * GIB)


def test_a_control_groups_limit_is_a_limit(tmp_path, monkeypatch):
  (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   8388608 kB\n")
  (tmp_path / "cgroup").write_text("9:memory:/a/b\n0::/c\n")
  monkeypatch.setattr(memory, "CGROUPS", tmp_path)

  def ram():
    return memory.ram(tmp_path / "meminfo", tmp_path / "cgroup")

  def group(path, limit, limit_value, use, value, stat):
    folder = tmp_path / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ((limit, limit_value), (use, value), ("memory.stat", stat)):
      (folder / name).write_text(f"{text}\n")

  assert ram() == 8 * GIB
  group("c", "memory.max", "max", "memory.current", GIB, "inactive_file 0")
  assert ram() == 8 * GIB
  group("memory/a", "memory.limit_in_bytes", 3 * GIB, "memory.usage_in_bytes", 2 * GIB, f"total_inactive_file {GIB}")
  assert ram() == 2 * GIB  # of a group above; pages of files are given up
  group("c", "memory.max", GIB, "memory.current", 0, "inactive_file 0")
  assert ram() == GIB
