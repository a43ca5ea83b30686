"""Gemma-3-4B by the paper's two-stage recipe: configs/skywork_mistral_7b.py on another base, its learning rate too.

  skymath run --config=configs/skywork_gemma3_4b.py:HARDWARE --workdir=gs://BUCKET/NAME --config.model.path=FOLDER
  skymath preflight --config=configs/skywork_gemma3_4b.py:HARDWARE

Ours: not run yet. Peak memory on slices of eight chips is in benchmarks/results/models.md.
"""

from skymath_jax.config import derive
from skymath_jax.hardware import find, fit

SMALL = 20  # GiB of a chip; the gradient of one copy of the table of embeddings is 2.5


def get_config(machine=""):
  c = derive(__file__, "skywork_mistral_7b")
  c.name = "skywork_gemma3_4b"
  c.model.path = "models/gemma-3-4b-pt"
  c.training.loss_chunk = 512  # logits of 262,208 entries: those of 2,048 tokens would take 4 GiB
  fit(c, machine, billions=5)  # 3.9, and room for a vocabulary that is gathered and summed in one piece
  if machine and find(machine).chip.usable < SMALL and c.mesh.tensor == 1 < c.mesh.fsdp:  # ... or in two
    c.mesh.fsdp, c.mesh.tensor = c.mesh.fsdp // 2, 2
  return c
