"""OLMo-3-7B by the paper's two-stage recipe: configs/skywork_mistral_7b.py on another base, its learning rate too.

  skymath run --config=configs/skywork_olmo3_7b.py:HARDWARE --workdir=gs://BUCKET/NAME --config.model.path=FOLDER
  skymath preflight --config=configs/skywork_olmo3_7b.py:HARDWARE

Ours: not run yet. Peak memory on slices of eight chips is in benchmarks/results/models.md.
"""

from skymath_jax.config import derive
from skymath_jax.hardware import fit


def get_config(machine=""):
  c = derive(__file__, "skywork_mistral_7b")
  c.name = "skywork_olmo3_7b"
  c.model.path = "models/Olmo-3-1025-7B"
  return fit(c, machine, billions=7.3)
