"""The whole recipe in minutes on two CPU cores: micro world, micro teacher, micro base; no download, no accelerator.

  skymath run --config=configs/quickstart.py --workdir=runs/quickstart

What to expect is in README.md; the same recipe at full size is in configs/skywork_*.py.
"""

from skymath_jax.config import base
from skymath_jax.hardware import note


def get_config(machine=""):
  c = base()
  c.name = "quickstart"

  c.seeds.sources = ("micro_gsm",)
  c.seeds.limit = 400

  c.teacher.model = "asset:micro_teacher"
  c.teacher.concurrency = 256

  c.serving.slots = 128
  c.serving.max_length = 384

  c.synthesis.max_tokens = 256
  c.synthesis.coreset_size = 120
  c.synthesis.pass1 = dict(answer_augmentation=0.5, rephrase=1.0, self_verification=0.6, fobar=0.6, evol=0.25, xwin=0.8)
  c.synthesis.pass2 = dict(answer_augmentation=0.5, rephrase=1.0, self_verification=0.3, fobar=0.3, evol=0.4, xwin=1.0)
  c.synthesis.hard = dict(answer_augmentation=2.0, rephrase=3.0, self_verification=0.5, fobar=0.5, evol=1.2, xwin=4.0)

  c.curation.test_sets = ("micro_gsm:test",)

  c.model.path = "asset:micro_base"
  c.model.dtype = "float32"
  c.model.remat = "none"
  c.model.scan_layers = False

  c.training.max_length = 256
  c.training.rows = 4
  c.training.checkpoint_every = 100
  c.training.stage1.learning_rate = 3e-3
  c.training.stage2.learning_rate = 5e-4  # gentler than stage 1: hard problems are learned, easy ones not forgotten

  c.evaluation.benchmarks = ("micro_gsm:test",)
  c.evaluation.max_tokens = 160

  c.export.dtype = "float32"
  return note(c, machine)
