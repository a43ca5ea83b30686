"""Fine-tunes any model on anybody's pairs: what `skymath train --data=…` takes where no config is named.

  skymath train --data=pairs.jsonl --model=ORG/NAME --workdir=runs/mine

Full fine-tuning at a learning rate that suits models of 0.1 to 10 billion parameters; change what you like with
`--config.training.KEY=VALUE`. `skymath preflight --config=configs/finetune.py:MACHINE` says whether a model fits.
"""

from skymath_jax.config import base
from skymath_jax.hardware import find, note


def get_config(machine=""):
  c = base()
  c.name = "finetune"
  c.training.stage1.learning_rate = 1e-5
  c.training.stage1.epochs = 3
  c.training.checkpoint_every = 200
  if machine:
    c.update_from_flattened_dict(find(machine).more)
  return note(c, machine)
