"""Nine hours on one TPU v5e-8, as Kaggle lends it: from seeds to an evaluated, exported model with a report.

  skymath run --config=configs/kaggle_v5e_8.py:v5e-8 --workdir=/kaggle/working/run   (or notebooks/kaggle_v5e_8.ipynb)
  skymath run --config=configs/kaggle_v5e_8.py:v5e-8 --workdir=runs/plan --dry-run   what it takes, said on any machine

The same chips answer as the teacher and then train: the engine runs inside the run, since two processes cannot share a
TPU. Forecasts are good to a factor of two, so this one is held below half of the nine hours by a test. A session that
ends early is gone on with by the same command on the same workdir. Not run yet on a real v5e-8.
"""

from skymath_jax.config import base
from skymath_jax.hardware import note


def get_config(machine=""):
  c = base()
  c.name = "kaggle_v5e_8"

  c.seeds.sources = ("gsm8k", "math")

  c.teacher.backend = "local"
  c.teacher.model = "Qwen/Qwen2.5-Math-7B-Instruct"  # 15 GB in bfloat16, cut over the eight chips
  c.serving.slots = 256
  c.serving.max_length = 2048

  c.synthesis.max_tokens = 1024
  c.synthesis.coreset_size = 4000
  c.synthesis.pass1 = dict(answer_augmentation=2.0, rephrase=1.0, self_verification=0.5, fobar=0.5, evol=0.25, xwin=0.5)
  c.synthesis.pass2 = dict(c.synthesis.pass1)
  c.synthesis.hard = dict(c.synthesis.pass1)

  c.curation.quality = ("gold",)  # where the answer is known it must be the right one

  # Apache-2.0 and no form to sign. Adapters, because checkpoints of all weights with Adam's states (20 GB each) would
  # fill the 20 GB that a session keeps; in memory either fits
  c.model.path = "Qwen/Qwen3-1.7B-Base"
  c.model.param_dtype = "bfloat16"
  c.training.lora_rank = 32
  c.training.lora_alpha = 64.0
  c.training.max_length = 1024
  c.training.rows = 16
  c.training.checkpoint_every = 200
  c.training.loss_chunk = 512  # logits of 151,936 entries
  c.training.stage1.learning_rate = 2e-4
  c.training.stage2.learning_rate = 1e-4

  c.evaluation.benchmarks = ("gsm8k:test", "math500")
  c.evaluation.mode = "symbolic"
  c.evaluation.max_tokens = 1024
  return note(c, machine)
