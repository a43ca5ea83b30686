"""The real road in half an hour on two CPU cores: configs/real.py with a 0.5B teacher and little of everything.

  make real-small
  skymath run --config=configs/real_small.py --workdir=runs/real_small

So few data change a model little: what is to be seen is that every step works on real models. The measured run is
configs/real.py (benchmarks/results/real.md).
"""

from skymath_jax.config import derive
from skymath_jax.hardware import note


def get_config(machine=""):
  c = derive(__file__, "real")
  c.name = "real_small"

  c.seeds.limit = 12
  c.teacher.model = c.teacher.model.replace("1.5b", "0.5b")
  c.teacher.concurrency = 16
  c.serving.slots = 16
  c.synthesis.coreset_size = 4
  c.synthesis.pass1 = dict(answer_augmentation=1.0, rephrase=1.0, self_verification=0.5, fobar=0.5, evol=0.2, xwin=0.5)
  c.synthesis.pass2 = dict(answer_augmentation=1.0)
  c.synthesis.hard = dict(answer_augmentation=1.0)

  c.curation.quality = ()  # the right ones alone are too few: of four hard answers there may be none

  c.training.rows = 2
  c.training.stage1.epochs = 1
  c.training.stage2.epochs = 1
  c.evaluation.limit = 16
  return note(c, machine)
