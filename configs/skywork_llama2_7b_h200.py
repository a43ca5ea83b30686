"""Llama-2-7B on one H200: configs/skywork_llama2_7b.py with a mesh for it.

  skymath preflight --config=configs/skywork_llama2_7b_h200.py --topology=h200-1
  skymath run --config=configs/skywork_llama2_7b_h200.py --workdir=FOLDER --config.model.path=FOLDER

Peak and estimated seconds a step are in benchmarks/results/training.md.
"""

from skymath_jax.config import derive


def get_config():
  c = derive(__file__, "skywork_llama2_7b")
  c.name = "skywork_llama2_7b_h200"
  c.training.mu_dtype = "bfloat16"
  return c
