"""Mistral-7B on a TPU v5e-16: configs/skywork_mistral_7b.py with a mesh for it.

  skymath preflight --config=configs/skywork_mistral_7b_v5e_16.py --topology=v5e-16
  skymath run --config=configs/skywork_mistral_7b_v5e_16.py --workdir=gs://BUCKET/NAME --config.model.path=FOLDER

Peak and estimated seconds a step are in benchmarks/results/training.md.
"""

from skymath_jax.config import derive


def get_config():
  c = derive(__file__, "skywork_mistral_7b")
  c.name = "skywork_mistral_7b_v5e_16"
  c.mesh.fsdp = 8  # one row of the step for two chips
  c.mesh.tensor = 2
  return c
