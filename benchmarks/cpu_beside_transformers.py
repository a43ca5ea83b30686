"""On a CPU, beside transformers in one run: a training step and generation of a small real model.

    skymath bench cpu_beside_transformers [--model=FOLDER] [--what=train,generate] [--rounds=2]

Each way runs in a process of its own, in turns, and the best round counts: what a shared machine does to one, it does
to all. Counted are CPU-seconds (`tokens/cpu-s`) beside wall. Training: rows × length random tokens, AdamW; generation:
greedy answers of exactly `--new` tokens to the same prompts. Programs that were compiled in an earlier round come from
JAX's persistent cache; their seconds are told apart (`first`). A peer's generation is warmed up by a few tokens.
"""

import argparse
import json
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from skymath_jax.cli import bench

MODEL = "~/.cache/skymath/models/smollm2-135m-instruct"
WAYS = {
  "train": ("ours", "torch_float32", "torch_bfloat16"),
  "generate": ("ours", "transformers_batched", "transformers_continuous"),
}
STEPS = 2  # timed, after one
LIMIT = 900  # seconds of one child


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """One row a task: ours, the best peer, and every way in the settings."""
  parser = argparse.ArgumentParser("skymath bench cpu_beside_transformers")
  parser.add_argument("--model", default=MODEL)
  parser.add_argument("--what", default="train,generate")
  parser.add_argument("--rounds", type=int, default=2)
  parser.add_argument("--rows", type=int, default=4)
  parser.add_argument("--length", type=int, default=512)
  parser.add_argument("--prompts", type=int, default=64)
  parser.add_argument("--new", type=int, default=200)
  chosen = parser.parse_args(arguments)
  for what in chosen.what.split(","):
    sizes = {"train": (chosen.rows, chosen.length), "generate": (chosen.prompts, chosen.new)}[what]
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(chosen.rounds):
      for way in WAYS[what]:
        found.setdefault(way, []).append(_measured(what, way, chosen.model, *sizes))
    best = {way: max(rows, key=lambda row: row.get("value", 0.0)) for way, rows in found.items()}
    peers = {way: row["value"] for way, row in best.items() if way != "ours" and "value" in row}
    yield {
      "name": f"cpu_beside_transformers.{what}",
      "value": best["ours"]["value"],
      "unit": "tokens/cpu-s",
      "peer": max(peers.values()),
      "settings": {"model": Path(chosen.model).name, "sizes": sizes, "rounds": chosen.rounds, **best},
    }


def _measured(what: str, way: str, model: str, *sizes: int) -> dict[str, Any]:
  """What a child process says; a peer that does not run here is told and left out."""
  command = bench.in_child("cpu_beside_transformers", "child", what, way, model, *map(str, sizes))
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
  except subprocess.TimeoutExpired:
    return {"failed": f"took more than {LIMIT} s"}
  if done.returncode:
    if way == "ours":
      raise RuntimeError(done.stderr[-2000:])
    return {"failed": done.stderr.strip().splitlines()[-1][:200]}
  found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
  return found


def child(what: str, way: str, model: str, *sizes: str) -> None:
  """Prints one JSON object: tokens a CPU-second and a second, seconds of the first call, peak memory."""
  from skymath_jax.cli import main

  main.set_environment()
  folder = str(Path(model).expanduser())
  work, tokens = {
    "train": _train_ours if way == "ours" else _train_torch,
    "generate": _generate_ours if way == "ours" else _generate_transformers,
  }[what](folder, way, *map(int, sizes))
  start = time.perf_counter()
  if not way.startswith("transformers"):
    work()
  first = time.perf_counter() - start
  start, cpu = time.perf_counter(), time.process_time()
  for _ in range(STEPS if what == "train" else 1):
    work()
  seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
  total = tokens * (STEPS if what == "train" else 1)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  row = {"value": total / cpu, "wall": total / seconds, "first": first, "peak_gib": peak}
  print(json.dumps({key: round(value, 2) for key, value in row.items()}))


def _batch(rows: int, length: int) -> Any:
  import numpy as np

  return np.random.default_rng(0).integers(5, 40_000, (rows, length)).astype(np.int32)


def _train_ours(folder: str, way: str, rows: int, length: int) -> tuple[Callable[[], None], int]:
  """The trainer's own step: float32 master weights, bfloat16 compute."""
  import dataclasses

  import numpy as np

  from skymath_jax import config, models
  from skymath_jax.recipe.train import as_trained
  from skymath_jax.training import optimizer, step

  decoder, _ = models.load_any(folder, dtype="float32")
  decoder = as_trained(decoder, dataclasses.replace(config.Model(), dtype="bfloat16", remat="wide"))
  settings = dataclasses.replace(config.Training(), rows=rows, max_length=length)
  chain = optimizer.make(settings)
  graph, state, _ = step.placed(decoder, chain, None)
  tokens, held = _batch(rows, length)[None], {"state": state}
  ones = np.ones(tokens.shape, np.int32)
  batch = {
    "tokens": tokens,
    "positions": np.cumsum(ones, axis=-1, dtype=np.int32) - 1,
    "segment_ids": ones,
    "loss_weights": ones.astype(np.float32),
  }

  def work() -> None:
    options = {"graph": graph, "optimizer": chain, "loss_chunk": settings.loss_chunk}
    held["state"], found = step.train_step(held["state"], batch, np.float32(1e-5), **options)
    found.loss.block_until_ready()

  return work, rows * length


def _train_torch(folder: str, way: str, rows: int, length: int) -> tuple[Callable[[], None], int]:
  """float32, or float32 weights under bfloat16 autocast; AdamW and clipping as ours."""
  import torch
  import transformers

  model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
  adam = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0)
  tokens = torch.from_numpy(_batch(rows, length)).long()

  def work() -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "torch_bfloat16"):
      loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()
    adam.zero_grad()

  return work, rows * length


def _questions(count: int) -> list[str]:
  """Word problems of the bundled world."""
  import tempfile

  from skymath_jax.problems import catalog

  with tempfile.TemporaryDirectory() as folder:
    return [problem.question for problem in catalog.load("micro_gsm:test", data_dir=folder)[:count]]


def _generate_ours(folder: str, way: str, count: int, new: int) -> tuple[Callable[[], None], int]:
  """The engine in process, bfloat16; nothing ends a response early."""
  from skymath_jax.engine import plan
  from skymath_jax.engine.engine import Engine
  from skymath_jax.engine.types import EngineSettings

  most = EngineSettings(slots=count, max_length=1024, steps_per_call=16)
  decoder, tokenizer, settings = plan.load(folder, most, dtype="bfloat16", requests=count, tokens=128 + new)
  engine = Engine(decoder, settings)
  prompts = [tokenizer.encode(text, bos=True) for text in _questions(count)]

  def work() -> None:
    engine.prefixes.clear()  # the second time is to be no easier than the first
    assert sum(map(len, bench.module("real_parity").decoded(engine, prompts, new))) == count * new

  return work, count * new


def _generate_transformers(folder: str, way: str, count: int, new: int) -> tuple[Callable[[], None], int]:
  """`generate` over one padded batch, or `generate_batch`; bfloat16 weights."""
  import torch
  import transformers

  model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
  tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
  how = transformers.GenerationConfig(
    max_new_tokens=new, min_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=tokenizer.pad_token_id
  )
  model.generation_config, texts = how, _questions(count)

  def work() -> None:
    if way == "transformers_batched":
      with torch.inference_mode():
        prompts = tokenizer(texts, return_tensors="pt", padding=True)
        made = model.generate(**prompts, generation_config=how)[:, prompts["input_ids"].shape[1] :]
    else:  # its own threads write to its tensors, which inference mode forbids; it then answers with nothing
      with torch.no_grad():
        answers = model.generate_batch(inputs=tokenizer(texts)["input_ids"], generation_config=how)
        made = [answer.generated_tokens for answer in answers.values()]
    lengths = [len(tokens) for tokens in made]
    if lengths != [how.max_new_tokens] * count:
      raise RuntimeError(f"{way}: {count} answers of {how.max_new_tokens} tokens were asked for, {lengths} came")

  short = how.max_new_tokens, how.min_new_tokens
  how.max_new_tokens = how.min_new_tokens = 4
  work()
  how.max_new_tokens, how.min_new_tokens = short
  return work, count * new
