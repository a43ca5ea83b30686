"""The paper's central claim on the micro world: accuracy against amount of data, and its ablations, on a CPU.

  skymath study --config=configs/study_micro.py --workdir=runs/study_micro

One teacher run makes more than 10,000 normal and 2,000 hard instances; every cell trains on a nested part of them, from
the bundled base, and is asked 500 unseen problems. One epoch in small steps, not the paper's three, to be done within
half an hour on two CPU cores. What came out is in benchmarks/results/study.md.
"""

from skymath_jax.config import derive
from skymath_jax.hardware import note


def get_config(machine=""):
  c = derive(__file__, "quickstart")
  c.name = "study_micro"

  c.seeds.limit = 0
  c.synthesis.coreset_size = 400
  c.synthesis.pass1 = dict(answer_augmentation=0.8, rephrase=0.8, self_verification=0.6, fobar=0.6, evol=0.35, xwin=2.0)
  c.synthesis.pass2 = dict(answer_augmentation=4.0, rephrase=0.8, self_verification=0.3, fobar=0.3, evol=0.4, xwin=0.8)
  c.synthesis.hard = dict(answer_augmentation=3.5, rephrase=1.2, self_verification=0.5, fobar=0.5, evol=0.6, xwin=0.8)

  c.training.rows = 2
  c.training.checkpoint_every = 500
  c.training.stage1.epochs = 1
  c.training.stage2.learning_rate = 1e-3
  c.training.stage2.epochs = 1

  c.export.dtype = "bfloat16"

  c.study.sizes = (100, 300, 1_000, 2_000, 4_000, 10_000)
  c.study.ablation_size = 2_000
  return note(c, machine)
