"""The machines: what each changes in a recipe, and the facts that preflight and MFU take from the same table."""

from pathlib import Path

import pytest

from skymath_jax import config, hardware
from skymath_jax.errors import UserError

CONFIGS = Path(__file__).parents[1] / "configs"
SEVEN_B = ("skywork_llama2_7b", "skywork_mistral_7b", "skywork_deepseekmath_7b")
TODAY = ("skywork_qwen3_8b", "skywork_llama3_1_8b", "skywork_olmo3_7b", "skywork_gemma3_4b")
FITTED = (*SEVEN_B, *TODAY, "study_mistral_7b")

# What the 18 recipes that this table replaced had set, beside their names
BEFORE = {
  "v4-32": {"mesh.fsdp": 8, "mesh.tensor": 2},
  "v5e-16": {"mesh.fsdp": 8, "mesh.tensor": 2},
  "v5p-16": {"mesh.fsdp": 8, "model.remat": "wide"},
  "h100": {"model.param_dtype": "bfloat16", "training.mu_dtype": "bfloat16", "model.remat": "full"},
  "h200": {"training.mu_dtype": "bfloat16"},
  "h200-8": {"mesh.fsdp": 8, "model.scan_layers": False},
}


@pytest.mark.parametrize("machine", BEFORE)
@pytest.mark.parametrize("recipe", SEVEN_B)
def test_a_recipe_on_a_machine_is_the_copy_that_there_was(recipe, machine):
  path = CONFIGS / f"{recipe}.py"
  alone, there = (config.flatten(config.resolve(config.load(path, *more))) for more in ((), (machine,)))
  assert there == {**alone, "hardware": machine, **BEFORE[machine]}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.stem)
def test_every_recipe_takes_every_machine(path):
  alone = config.flatten(config.resolve(config.load(path)))
  for name, machine in hardware.HARDWARE.items():
    found = config.flatten(config.resolve(config.load(path, name)))
    assert found["hardware"] == name and found["name"] == path.stem
    changed = {key for key in found if found[key] != alone[key]} - {"hardware"}
    fitted = {"finetune": machine.more.keys(), **dict.fromkeys(FITTED, machine.changes(billions=1000).keys())}
    assert changed <= fitted.get(path.stem, set())


def test_names():
  assert hardware.find("v5litepod-8") == hardware.find("v5e-8") and hardware.find("h100-1") == hardware.find("h100")
  for theirs, ours in {"ct5lp-hightpu-8t": "v5e-8", "ct5p-hightpu-4t": "v5p-8", "ct6e-standard-1t": "v6e-1"}.items():
    assert hardware.find(theirs) == hardware.find(ours) == hardware.find(f"tpu-{ours}") == hardware.find(ours.upper())
  for name in ("v4-8", "v5e-256", "v5p-128", "v6e-1", "tpu7x-8", "gpu24", "cpu"):
    assert hardware.find(name).name == name
  assert hardware.names().startswith("v4-8 … v4-128, v5e-1 …") and hardware.names().endswith("gpu24, cpu")
  with pytest.raises(UserError, match=r"'v6e16' is not known\. did you mean v6e-16"):
    hardware.find("v6e16")
  with pytest.raises(UserError, match="2 slices of h200"):
    hardware.find("h200", slices=2)
  with pytest.raises(UserError, match="did you mean h200"):
    config.load(CONFIGS / "quickstart.py", "h20")


def test_chips_devices_and_topologies():
  pod = hardware.find("v5e-256", slices=2)
  assert pod.chips == 512 and pod.title == "2 × v5e-256" and pod.topology()["wrap"] == (True, True, False)
  assert hardware.find("v4-32").chips == hardware.find("v4-32").devices == 16
  cube = hardware.find("v5p-128").topology()
  assert (cube["topology_name"], cube["wrap"], cube["chip_config_name"]) == ("v5:4x4x4", (True,) * 3, "megacore")
  assert "wrap" not in hardware.find("v4-8").topology()
  halves = hardware.find("tpu7x-8")
  assert (halves.chips, halves.devices) == (4, 8) and halves.topology()["topology_name"] == "tpu7x:2x2x1"
  assert hardware.find("v6e-8").larger().name == "v6e-16" and hardware.find("v6e-256").larger() is None
  assert hardware.find("h100").larger().name == "h100-8"


@pytest.mark.parametrize(
  "kind, peak",
  [
    ("TPU v4", 275e12), ("TPU v5 lite", 197e12), ("TPU v5", 459e12), ("TPU v5p", 459e12), ("TPU v6 lite", 918e12),
    ("TPU7x", 2307e12 / 2), ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H200", 989e12),
    ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA GeForce RTX 4090", 165e12), ("cpu", None),
  ],
)  # fmt: skip
def test_peak_flops_by_the_name_that_jax_gives(kind, peak):
  assert hardware.peak_flops(kind) == peak


@pytest.mark.parametrize(
  ("environment", "devices", "plugins", "cpu"),
  [
    ({}, [], False, True),
    ({}, ["nvidia0"], True, False),
    ({}, ["nvidia0"], False, True),  # a laptop's GPU, and JAX without CUDA
    ({}, ["accel3"], False, False),
    ({}, ["vfio", "nvidiactl"], True, True),
    ({"JAX_PLATFORMS": "cpu"}, ["nvidia0"], True, True),
    ({"JAX_PLATFORM_NAME": "cpu"}, ["accel0"], False, True),
    ({"JAX_PLATFORMS": "cuda,cpu"}, [], False, False),
  ],
)
def test_where_the_cpu_computes(monkeypatch, tmp_path, environment, devices, plugins, cpu):
  for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
    monkeypatch.delenv(name, raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  for name in devices:
    (tmp_path / name).touch()
  here = str(tmp_path)
  monkeypatch.setattr(hardware, "TPU_FILES", [pattern.replace("/dev", here) for pattern in hardware.TPU_FILES])
  monkeypatch.setattr(hardware, "GPU_FILES", hardware.GPU_FILES.replace("/dev", here))
  monkeypatch.setattr("importlib.util.find_spec", lambda name: name if plugins else None)
  assert hardware.computes_on_cpu() == cpu
