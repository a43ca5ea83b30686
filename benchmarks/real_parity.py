"""Greedy answers of a real model through our engine, token for token beside transformers in float32.

    skymath bench real_parity [--model=FOLDER] [--questions=JSONL] [--count=16] [--joined=1] [--new=128]

Questions go through the model's own chat template, if it has one; so many `joined` in one prompt make it longer than
a window. Where the tokens part, transformers' logits there say how near the
two were: a difference of less than `NEAR` is a tie that float32's last digits decide.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from skymath_jax import chat, records
from skymath_jax.engine import plan
from skymath_jax.engine.batching import Job, Loop
from skymath_jax.engine.engine import Engine
from skymath_jax.engine.slots import Slots
from skymath_jax.engine.types import EngineSettings, Prompt

MODEL = "~/.cache/skymath/models/qwen2.5-coder-0.5b-instruct"
NEAR = 1e-3  # of a logit
MAX_LENGTH = 2048


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """One row: answers that are equal in every token; the rest in the settings."""
  parser = argparse.ArgumentParser("skymath bench real_parity")
  parser.add_argument("--model", default=MODEL)
  parser.add_argument("--questions", required=True, help="JSONL with a key question, such as GSM8K's")
  parser.add_argument("--count", type=int, default=16)
  parser.add_argument("--joined", type=int, default=1)
  parser.add_argument("--new", type=int, default=128)
  parser.add_argument("--dtype", default="float32")
  chosen = parser.parse_args(arguments)
  folder = str(Path(chosen.model).expanduser())
  rows = [row["question"] for _, row in records.read_lines(chosen.questions)][: chosen.count * chosen.joined]
  questions = ["\n\n".join(rows[i : i + chosen.joined]) for i in range(0, len(rows), chosen.joined)]
  prompts, ours = answers(folder, questions, chosen.new, chosen.dtype)
  parted = _parted(folder, prompts, ours, chosen.new)
  yield {
    "name": f"real_parity.{Path(folder).name}",
    "value": len(ours) - len(parted),
    "unit": "answers equal",
    "peer": len(ours),
    "settings": {
      "dtype": chosen.dtype,
      "new": chosen.new,
      "tokens": sum(map(len, ours)),
      "longest_prompt": max(map(len, prompts)),
      "parted": parted,
    },
  }


def answers(folder: str, questions: Sequence[str], new: int, dtype: str) -> tuple[list[list[int]], list[list[int]]]:
  """(prompt ids, new ids) of our engine."""
  most = EngineSettings(slots=len(questions), max_length=MAX_LENGTH, steps_per_call=16)
  decoder, tokenizer, settings = plan.load(folder, most, dtype=dtype, requests=len(questions), tokens=MAX_LENGTH)
  encode = chat.question_encoder(tokenizer, "auto")
  prompts = [encode(question) for question in questions]
  engine = Engine(decoder, settings, stop_ids=tokenizer.end_ids)
  return prompts, decoded(engine, prompts, new)


def decoded(engine: Engine, prompts: Sequence[list[int]], new: int) -> list[list[int]]:
  """Greedy new ids of each prompt, all in slots at once."""
  jobs = [Job(prompt=Prompt(tokens=tuple(prompt), max_tokens=new)) for prompt in prompts]
  loop = Loop(Slots(engine))
  for job, prefix in zip(jobs, engine.prefill_each([job.prompt for job in jobs]), strict=True):
    loop.start(job, prefix)
  while loop.live:
    loop.step()
  return [job.tokens for job in jobs]


def _parted(folder: str, prompts: Sequence[list[int]], ours: Sequence[list[int]], new: int) -> list[dict[str, Any]]:
  """Where greedy decoding by transformers, float32 and one by one, does not give our tokens."""
  import torch
  import transformers

  model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
  parted = []
  for number, (prompt, mine) in enumerate(zip(prompts, ours, strict=True)):
    with torch.inference_mode():
      logits = model(input_ids=torch.tensor([prompt + mine])).logits[0, len(prompt) - 1 :]
    ends = set(torch.atleast_1d(torch.tensor(model.generation_config.eos_token_id)).tolist())
    best = logits.argmax(-1).tolist()
    # teacher forcing: the first token that is not transformers' own choice is where its greedy text would part
    at = next((i for i, token in enumerate(mine) if best[i] != token), None)
    if at is None and (len(mine) >= new or best[len(mine)] in ends):
      continue
    at = len(mine) if at is None else at
    gap = float(logits[at].max() - logits[at][mine[at]]) if at < len(mine) else None
    parted.append({"answer": number, "token": at, "logit_gap": gap, "tie": gap is not None and gap < NEAR})
  return parted
