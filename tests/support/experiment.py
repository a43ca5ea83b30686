"""A model of two narrow layers on real micro-world prompts, whose lengths differ much. A config file."""

from skymath_jax.config import base


def get_config():
  c = base()
  c.name = "experiment"
  c.model.dtype = "float32"
  c.model.tokenizer = "asset:micro_teacher"
  c.model.scratch.embed = 48
  c.model.scratch.layers = 2
  c.model.scratch.mlp = 80
  c.training.data = "micro_gsm/teacher"
  c.training.examples = 230
  c.training.template = "raw"
  c.training.max_length = 250
  c.training.rows = 8
  c.training.loss_chunk = 500
  c.training.checkpoint_every = 100
  c.training.stage1.learning_rate = 5e-3
  c.training.stage1.epochs = 1
  c.evaluation.benchmarks = ("micro_gsm:test",)
  c.evaluation.models = ("stage1",)
  c.evaluation.limit = 6
  c.serving.slots = 6
  c.evaluation.max_tokens = 8
  c.serving.max_length = 256
  return c
