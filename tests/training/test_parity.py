"""Fifty steps beside `transformers` + `torch.optim.AdamW`, from the same weights and the same examples, in float32."""

import jax
import numpy as np
import pytest

from skymath_jax.config import Training
from skymath_jax.models import hf
from skymath_jax.training import optimizer, step
from skymath_jax.training.packing import Packing, Steps
from tests.support.doubles import Characters, decoder, some_rows, tokenize

STEPS = 50
QWEN = {"family": "qwen2", "qkv_bias": True, "tie_embeddings": True, "rope_theta": 1e6, "norm_eps": 1e-6}
SHAPES = {"llama": {}, "qwen2": {**QWEN, "kv_heads": 1}}
SETTINGS, PEAK = Training(warmup_ratio=0.2, weight_decay=0.1, clip=0.8, betas=(0.9, 0.99)), 3e-3


def our_steps(made, shape):
  chain, schedule = optimizer.make(SETTINGS), optimizer.learning_rate(SETTINGS, PEAK, STEPS)
  graph, state = step.init(decoder(**shape), chain)
  for i in range(STEPS):
    state, metrics = step.train_step(
      state, made[i], np.float32(schedule(i)), graph=graph, optimizer=chain, loss_chunk=4096
    )
    yield jax.device_get(metrics)


def their_steps(made, shape, folder):
  """Each example alone in its own forward pass: no packing, no mask, one division by the step's trained tokens."""
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  torch.set_num_threads(1)  # on matrices this small its threads only wait for each other
  hf.save(decoder(**shape), folder, dtype="float32")
  model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
  decays = {n: not any(word in n for word in ("norm", "embed", "bias")) for n, _ in model.named_parameters()}
  groups = [
    {"params": [p for n, p in model.named_parameters() if decays[n] == flag], "weight_decay": 0.1 * flag}
    for flag in (True, False)
  ]
  adam = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99), eps=1e-8)
  schedule = optimizer.learning_rate(SETTINGS, PEAK, STEPS)
  e = made.examples
  for i in range(STEPS):
    indices = [index for row in made.plan[i] for index in row]
    total = sum(int(e.trained[e.place(j)].sum()) for j in indices)
    for group in adam.param_groups:
      group["lr"] = float(schedule(i))
    adam.zero_grad()
    value = 0.0
    for j in indices:
      tokens = torch.tensor(e.tokens[e.place(j)], dtype=torch.long)
      labels = tokens.clone()
      labels[~e.trained[e.place(j)]] = -100
      logits = model(tokens[None]).logits[0, :-1]
      part = torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum", ignore_index=-100) / total
      part.backward()
      value += part.item()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), SETTINGS.clip)
    adam.step()
    yield value, norm.item()


@pytest.mark.parametrize("name", ["qwen2", pytest.param("llama", marks=pytest.mark.slow)])
def test_fifty_steps_agree_with_transformers_and_torch_adamw(name, tmp_path):
  examples = tokenize(some_rows(480), Characters(), template="raw", max_length=64)
  made = Steps(examples, Packing(max_length=64, rows=4, epochs=1, micro_batches=2))
  assert len(made) >= STEPS
  ours = np.array([(float(m.loss), float(m.grad_norm)) for m in our_steps(made, SHAPES[name])])
  theirs = np.array(list(their_steps(made, SHAPES[name], tmp_path)))
  difference = np.abs(ours - theirs)
  print(f"{name}: largest difference of loss {difference[:, 0].max():.1e}, of norm {difference[:, 1].max():.1e}")
  assert difference[:, 0].max() <= 1e-4
  assert difference[:, 1].max() <= 1e-3
  assert (theirs[:, 1] > SETTINGS.clip).any()  # clipping was really at work
  assert ours[-1, 0] < ours[0, 0] - 0.3  # and so was learning
