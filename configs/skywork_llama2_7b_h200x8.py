"""Llama-2-7B on eight H200 or H100: configs/skywork_llama2_7b.py with a mesh for it.

  skymath preflight --config=configs/skywork_llama2_7b_h200x8.py --topology=h200-8
  skymath run --config=configs/skywork_llama2_7b_h200x8.py --workdir=FOLDER --config.model.path=FOLDER

Peak and estimated seconds a step are in benchmarks/results/training.md.
"""

from skymath_jax.config import derive


def get_config():
  c = derive(__file__, "skywork_llama2_7b")
  c.name = "skywork_llama2_7b_h200x8"
  c.mesh.fsdp = 8  # one row of the step a GPU
  c.model.scan_layers = False  # unrolled layers are 2 % faster on GPUs
  return c
