"""Real models on two CPU cores: a 1.5B teacher makes data from GSM8K's training problems, a 135M student learns them.

  make real                     fetches the models (benchmarks/real_models.py) and runs this recipe
  skymath run --config=configs/real.py --workdir=runs/real

The same file is where a real run of one's own begins: another `teacher.model` and `model.path`, and the hardware behind
a colon. GSM8K's two files must lie in ~/.cache/skymath/datasets/gsm8k if no hub can be reached. What came out, and how
long it took, is in benchmarks/results/real.md; configs/real_small.py is the same in half an hour.
"""

from skymath_jax.config import base
from skymath_jax.hardware import note

MODELS = "~/.cache/skymath/models"


def get_config(machine=""):
  c = base()
  c.name = "real"

  c.seeds.sources = ("gsm8k",)
  c.seeds.limit = 1000

  c.teacher.model = f"{MODELS}/qwen2.5-coder-1.5b-instruct"
  c.teacher.concurrency = 32
  c.serving.slots = 32
  c.serving.max_length = 1024

  c.synthesis.max_tokens = 512
  c.synthesis.coreset_size = 300
  c.synthesis.pass1 = dict(answer_augmentation=2.0, rephrase=1.0, self_verification=0.5, fobar=0.5, evol=0.25, xwin=0.5)
  c.synthesis.pass2 = dict(c.synthesis.pass1)
  c.synthesis.hard = dict(c.synthesis.pass1)  # of problems with four calculations and more

  c.curation.test_sets = ("gsm8k:test",)
  c.curation.fuzzy = 0.35
  c.curation.quality = ("gold",)  # where the answer is known it must be the right one

  c.model.path = f"{MODELS}/smollm2-135m-instruct"
  c.training.max_length = 512
  c.training.rows = 8
  c.training.stage1.learning_rate = 1e-4
  c.training.stage2.learning_rate = 3e-5

  c.evaluation.benchmarks = ("gsm8k:test",)
  c.evaluation.mode = "symbolic"
  c.evaluation.max_tokens = 320
  return note(c, machine)
