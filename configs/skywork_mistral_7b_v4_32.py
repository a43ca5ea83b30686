"""Mistral-7B on a TPU v4-32 (16 chips): configs/skywork_mistral_7b.py with a mesh for it.

  skymath preflight --config=configs/skywork_mistral_7b_v4_32.py --topology=v4-32
  skymath run --config=configs/skywork_mistral_7b_v4_32.py --workdir=gs://BUCKET/NAME --config.model.path=FOLDER

Peak and estimated seconds a step are in benchmarks/results/training.md.
"""

from skymath_jax.config import derive


def get_config():
  c = derive(__file__, "skywork_mistral_7b")
  c.name = "skywork_mistral_7b_v4_32"
  c.mesh.fsdp = 8  # one row of the step for two chips
  c.mesh.tensor = 2
  return c
