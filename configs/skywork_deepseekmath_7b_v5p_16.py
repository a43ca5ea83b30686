"""DeepSeekMath-Base-7B on a TPU v5p-16 (8 chips): configs/skywork_deepseekmath_7b.py with a mesh for it.

  skymath preflight --config=configs/skywork_deepseekmath_7b_v5p_16.py --topology=v5p-16
  skymath run --config=configs/skywork_deepseekmath_7b_v5p_16.py --workdir=gs://BUCKET/NAME --config.model.path=FOLDER

Peak and estimated seconds a step are in benchmarks/results/training.md.
"""

from skymath_jax.config import derive


def get_config():
  c = derive(__file__, "skywork_deepseekmath_7b")
  c.name = "skywork_deepseekmath_7b_v5p_16"
  c.mesh.fsdp = 8  # one row of the step a chip
  c.model.remat = "wide"
  return c
