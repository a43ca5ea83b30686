"""The paper's scaling curve and ablations with Mistral-7B (arXiv 2407.08348 sections 4.2.2 and 4.3).

  skymath study --config=configs/study_mistral_7b.py --workdir=/mnt/disk/NAME --config.model.path=FOLDER

Sizes are those for which the paper's tables give numbers: on MATH 13.96 % from 7.5K instances, 27.84 from 60K, 39.68
from 360K, 44.56 from 1.0M, 45.86 from 1.5M, 49.10 from 2.1M (tables 11, 9, 3, 4, 4, 13; the first five may be of length
512, the last is of 2048). One seed first: raise study.rng_seeds in another workdir when it is worth it.
Ours: not run yet. Data of an earlier run serves as it is: copy its seeds/, synthesis/ and sft/ into the workdir.
"""

from skymath_jax.config import base
from skymath_jax.hardware import fit


def get_config(machine=""):
  c = base()
  c.name = "study_mistral_7b"

  # Section 3: broad seeds without GSM8K. All training text is English (section 4.3.4): of AGIEval the English ones, but
  # not its `math` subset, which is MATH test.
  c.seeds.sources = ("math", "olympiadbench", "agieval:sat_math+aqua_rat", "scibench", "jeebench")

  # The paper's teacher (GPT-4) is gone. This one is open (Apache-2.0), made for mathematics, served by JetStream
  # replicas, one a chip. A vendor's instead: c.teacher.backend = "openai" with its c.teacher.base_url and model name.
  c.teacher.model = "Qwen/Qwen2.5-Math-7B-Instruct"

  c.model.path = "models/Mistral-7B-v0.1"

  c.training.stage1.learning_rate = 2e-6
  c.training.stage2.learning_rate = 2e-6

  c.study.sizes = (7_500, 60_000, 360_000, 1_000_000, 1_500_000, 2_100_000)
  c.study.ablation_size = 360_000
  c.study.rng_seeds = 1
  return fit(c, machine)
