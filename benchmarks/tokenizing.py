"""A data set → tokens and masks of a chat template: rows/s and memory, once and again, beside `datasets.map`.

    skymath bench tokenizing [--rows=100000] [--model=FOLDER] [--data=PAIRS] [--peer=FOLDER_WITH_DATASETS]

JSON lines of about 700 characters are made of `--data`'s pairs (else of the micro world's) and a number each. Ours and
the peer read the same file with as many processes as there are cores, each in a process of its own, one after the
other; the peer renders with transformers, and takes the mask from the offsets of one encoding, as we do. `again` is
what a resume does before its first step: look whether the tokens are those of this data, map them, pack an epoch, make
a batch. Memory is the largest resident set of any one process. Needs transformers, and `datasets` here or in `--peer`.
"""

import argparse
import hashlib
import importlib.util
import itertools
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skymath_jax import models
from skymath_jax.cli import bench
from skymath_jax.sft import pairs, texts
from skymath_jax.training import tokens
from skymath_jax.training.examples import select
from skymath_jax.training.packing import Packing, Steps

CHARACTERS = 700  # of a row, at least
COMPARED = 1000  # rows whose tokens and masks both sides tell
LENGTH, ROWS = 2048, 8
CHATML = (
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write(path: Path, count: int, data: str) -> None:
  """`count` different rows."""
  source: Any = pairs.open(data) if data else texts.generate("micro_gsm/teacher", 4000)
  base = [(row["query"], row["response"]) for row in itertools.islice(source, 20_000)]
  with path.open("w") as file:
    for number in range(count):
      query, response = base[number % len(base)]
      more = number
      while len(query) + len(response) < CHARACTERS:
        more += 1
        response = f"{response}\n{base[more % len(base)][1]}"
      file.write(json.dumps({"query": f"{number}. {query}", "response": response}) + "\n")


def told(started: float, **more: Any) -> None:
  """Prints seconds since `started` and the memory of this process and its children."""
  used = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
  print(json.dumps({"seconds": time.perf_counter() - started, "peak_mib": round(max(used)), **more}))


def digest(rows: Iterator[tuple[list[int], list[int]]]) -> str:
  """Of the tokens and masks of the first rows."""
  found = hashlib.sha256()
  for ids, mask in itertools.islice(rows, COMPARED):
    found.update(json.dumps([ids, mask]).encode())
  return found.hexdigest()[:16]


def ours(folder: str, model: str) -> None:
  """Makes the tokens, or finds them, and gets ready for the first step."""
  started = time.perf_counter()
  words, path = models.tokenizer_of(model), Path(folder) / "tokens"
  source = pairs.open(f"{folder}/rows.jsonl")
  tokens.keep(path, source, words, f"{folder}/chat.jinja")
  made = time.perf_counter() - started
  examples = select(tokens.open(path), max_length=LENGTH)
  Steps(examples, Packing(max_length=LENGTH, rows=ROWS, epochs=1))[0]
  places = map(examples.place, range(len(examples)))
  each = ((examples.tokens[place].tolist(), examples.trained[place].astype(int).tolist()) for place in places)
  told(started, made=made, tokens=len(examples.tokens), digest=digest(each))


def peers(folder: str, model: str) -> None:
  """The same by `datasets.map`; the mask of an answer from the offsets of one encoding."""
  import datasets
  import transformers

  started = time.perf_counter()
  words = transformers.AutoTokenizer.from_pretrained(str(models.resolve(model)))
  template, cores = Path(f"{folder}/chat.jinja").read_text(), len(os.sched_getaffinity(0))

  def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
    talks = [
      [{"role": "user", "content": query}, {"role": "assistant", "content": response}]
      for query, response in zip(batch["query"], batch["response"], strict=True)
    ]
    whole: list[Any] = words.apply_chat_template(talks, chat_template=template, tokenize=False)
    asked = words.apply_chat_template(
      [talk[:1] for talk in talks], chat_template=template, tokenize=False, add_generation_prompt=True
    )
    found = words(whole, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False)
    ends = [len(text) - 1 for text in whole]  # the line end behind the end token
    spans = zip(found["offset_mapping"], map(len, asked), ends, strict=True)
    mask = [[int(a >= start and b <= end) for a, b in offsets] for offsets, start, end in spans]
    return {"input_ids": found["input_ids"], "assistant_masks": mask}

  rows = datasets.load_dataset("json", data_files=f"{folder}/rows.jsonl", split="train", cache_dir=f"{folder}/cache")
  done = rows.map(encode, batched=True, num_proc=cores, remove_columns=rows.column_names)
  made = time.perf_counter() - started
  told(started, made=made, digest=digest((row["input_ids"], row["assistant_masks"]) for row in done))


def child(function: str, *words: str, path: str = "") -> dict[str, Any]:
  """What a function prints that runs in a process of its own."""
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH", "")]))}
  environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
  command = bench.in_child("tokenizing", function, *words)
  done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
  found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
  return found


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """Rows: rows/s and memory of ours, of the peer's, and seconds of doing it again, for each number of rows."""
  parser = argparse.ArgumentParser("skymath bench tokenizing")
  parser.add_argument("--rows", default="100000")
  parser.add_argument("--model", default="~/.cache/skymath/models/smollm2-135m-instruct")
  parser.add_argument("--data", default="")
  parser.add_argument("--peer", default="")
  chosen = parser.parse_args(arguments)
  beside = bool(chosen.peer) or importlib.util.find_spec("datasets") is not None
  for count in map(int, chosen.rows.split(",")):
    with tempfile.TemporaryDirectory() as folder:
      write(Path(folder) / "rows.jsonl", count, chosen.data)
      (Path(folder) / "chat.jinja").write_text(CHATML)
      first = child("ours", folder, chosen.model)
      second = child("ours", folder, chosen.model)
      other = child("peers", folder, chosen.model, path=chosen.peer) if beside else {}
    settings = {"rows": count, "tokens_per_row": round(first["tokens"] / count), "cores": len(os.sched_getaffinity(0))}
    if other:
      settings["same_tokens_and_masks"] = first["digest"] == other["digest"]
    rates = [round(count / told["made"]) if told else None for told in (first, other)]
    yield {"name": "tokenizing", "value": rates[0], "unit": "rows/s", "peer": rates[1], "settings": settings}
    memory = {"value": first["peak_mib"], "unit": "MiB", "peer": other.get("peak_mib"), "settings": settings}
    yield {"name": "tokenizing.memory", **memory}
    settings = {**settings, "found_after": round(second["made"], 2), "peak_mib": second["peak_mib"]}
    yield {"name": "tokenizing.again", "value": round(second["seconds"], 2), "unit": "s", "settings": settings}
