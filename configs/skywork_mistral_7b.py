"""Mistral-7B on Skywork-MathQA-style data: the paper's recipe (arXiv 2407.08348 sections 3 and 4.1.3).

  skymath run --config=configs/skywork_mistral_7b.py:HARDWARE --workdir=gs://BUCKET/NAME --config.model.path=FOLDER
  skymath preflight --config=configs/skywork_mistral_7b.py:HARDWARE

Paper's result, GSM8K / MATH: 83.9 / 51.2 after stage 2 (its table 1; greedy, strict grader). Ours: not run yet.
Steps in the paper: 202,500 + 37,500 of 32 examples. Teacher: JetStream replicas of an open model, or any endpoint
(teacher.backend, teacher.addresses). HARDWARE is v4-32, v5e-16, v5p-16, h200, … (skymath_jax/hardware.py); peak memory
and estimated seconds a step are in benchmarks/results/training.md.
"""

from skymath_jax.config import base
from skymath_jax.hardware import fit


def get_config(machine=""):
  c = base()
  c.name = "skywork_mistral_7b"

  # Section 3: broad seeds without GSM8K. All training text is English (section 4.3.4): of AGIEval the English ones, but
  # not its `math` subset, which is MATH test.
  c.seeds.sources = ("math", "olympiadbench", "agieval:sat_math+aqua_rat", "scibench", "jeebench")

  # The paper's teacher (GPT-4) is gone. This one is open (Apache-2.0), made for mathematics, served by JetStream
  # replicas, one a chip. A vendor's instead: c.teacher.backend = "openai" with its c.teacher.base_url and model name.
  c.teacher.model = "Qwen/Qwen2.5-Math-7B-Instruct"

  c.synthesis.prompts = "few_shot"  # as MetaMath asks; our own worked examples

  c.model.path = "models/Mistral-7B-v0.1"

  c.training.stage1.learning_rate = 2e-6
  c.training.stage2.learning_rate = 2e-6
  return fit(c, machine)
