"""The bundled micro base, from nothing: knows the words and the arithmetic of the micro world, solves few problems.

  make micro-base

About ten minutes on two CPU cores. Its measured skill is in skymath_jax/assets/micro_base/README.md.
"""

from skymath_jax.config import base
from skymath_jax.hardware import note


def get_config(machine=""):
  c = base()
  c.name = "micro_base"
  c.model.path = ""  # from scratch
  c.model.dtype = "float32"
  c.model.remat = "none"
  c.model.scan_layers = False

  c.model.tokenizer = "asset:micro_teacher"  # one vocabulary for both

  c.training.data = "micro_gsm/base"
  c.training.examples = 110_000
  c.training.template = "raw"
  c.training.max_length = 256
  c.training.rows = 16
  c.training.betas = (0.9, 0.98)
  c.training.checkpoint_every = 200
  c.training.stage1.learning_rate = 3e-3
  c.training.stage1.epochs = 1
  return note(c, machine)
