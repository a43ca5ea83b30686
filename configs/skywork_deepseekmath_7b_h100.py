"""DeepSeekMath-Base-7B on one H100: configs/skywork_deepseekmath_7b.py with a mesh for it.

  skymath preflight --config=configs/skywork_deepseekmath_7b_h100.py --topology=h100-1
  skymath run --config=configs/skywork_deepseekmath_7b_h100.py --workdir=FOLDER --config.model.path=FOLDER

Peak and estimated seconds a step are in benchmarks/results/training.md.
"""

from skymath_jax.config import derive


def get_config():
  c = derive(__file__, "skywork_deepseekmath_7b")
  c.name = "skywork_deepseekmath_7b_h100"
  c.model.param_dtype = "bfloat16"  # 80 GB hold no float32 master weights: rounded by chance instead
  c.training.mu_dtype = "bfloat16"
  c.model.remat = "full"
  return c
