"""A real instruct model, fine-tuned on a few pairs in its own chat template: the same text everywhere, and it ends.

    skymath bench end_by_itself [--data=PAIRS] [--model=FOLDER] [--workdir=DIR] [--pairs=500] [--questions=100]
                                [--new=256] [--config.training.KEY=VALUE ...]

The first pairs (without `--data` the micro world's word problems and solutions) are trained on (`skymath train`, whose
recipe is configs/finetune.py), the model is exported in float32, and the next questions are asked, greedily, before
and after: through `skymath serve`'s chat endpoint and through transformers' chat pipeline on the exported folder.
Counted are the answers that end before the token limit, and those that are the same on both sides, character for
character. A workdir that is kept goes on where it was.
"""

import argparse
import concurrent.futures
import itertools
import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from skymath_jax import models
from skymath_jax.cli import bench, main
from skymath_jax.errors import UserError
from skymath_jax.problems import catalog
from skymath_jax.server.process import ServerProcess
from skymath_jax.sft import pairs

Answer = tuple[str, bool]  # text, whether it ended by itself
TOGETHER = 16
MAX_QUESTION = 512  # tokens


def served(folder: str, questions: Sequence[str], new: int, log: Path) -> list[Answer]:
  """What `skymath serve` answers."""
  command = [sys.executable, "-m", "skymath_jax.cli", "serve", f"--model={folder}", "--port=0", "--dtype=float32"]
  command += [f"--slots={TOGETHER}", f"--max_length={MAX_QUESTION + new}", "--exit_with_parent"]
  with ServerProcess(command, log_path=str(log)) as server:
    server.wait_until_ready(600)
    found = re.search(r"HTTP http://\S+:(\d+)", log.read_text())
    assert found is not None
    url = f"http://127.0.0.1:{found[1]}/v1/chat/completions"

    def ask(question: str) -> Answer:
      body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": new}
      call = urllib.request.Request(url, json.dumps(body).encode())
      with urllib.request.urlopen(call, timeout=3600) as answer:
        choice = json.load(answer)["choices"][0]
      return choice["message"]["content"], choice["finish_reason"] == "stop"

    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
      return list(pool.map(ask, questions))


def piped(folder: str, questions: str, new: str) -> None:
  """Prints what transformers' chat pipeline answers to the questions of a JSON file; in a process of its own."""
  import torch
  import transformers

  pipe = transformers.pipeline("text-generation", folder, dtype=torch.float32, device="cpu")
  pipe.tokenizer.padding_side = "left"
  if pipe.tokenizer.pad_token_id is None:
    pipe.tokenizer.pad_token_id = pipe.tokenizer.eos_token_id
  talks = [[{"role": "user", "content": question}] for question in json.loads(Path(questions).read_text())]
  told = pipe(talks, max_new_tokens=int(new), do_sample=False, batch_size=TOGETHER, return_full_text=False)
  texts = [each[0]["generated_text"] for each in told]
  print(json.dumps([[text, len(pipe.tokenizer(text).input_ids) < int(new)] for text in texts]))


def fine_tuned(data: str, model: str, workdir: Path, more: Sequence[str]) -> str:
  """The exported folder.

  Raises:
    UserError: training or export failed.
  """
  words = [f"--data={data}", f"--model={model}", f"--workdir={workdir}", "--config.model.remat=names", *more]
  steps = [["train", *words]]
  if not (workdir / "export").exists():
    checkpoint = workdir / "checkpoints" / "stage1"
    steps.append(["export", f"--checkpoint={checkpoint}", f"--out={workdir / 'export'}", "--dtype=float32"])
  for step in steps:
    if code := main.call(step):
      raise UserError(f"skymath {step[0]} ended with {code}", where=workdir, remedy="see above")
  return str(workdir / "export")


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """Rows: the shares that end by themselves before and after, and that of equal greedy texts."""
  parser = argparse.ArgumentParser("skymath bench end_by_itself")
  parser.add_argument("--data", default="")
  parser.add_argument("--model", default="~/.cache/skymath/models/smollm2-135m-instruct")
  parser.add_argument("--workdir", default="")
  parser.add_argument("--pairs", type=int, default=500)
  parser.add_argument("--questions", type=int, default=100)
  parser.add_argument("--new", type=int, default=256)
  chosen, more = parser.parse_known_args(arguments)
  model = str(models.resolve(chosen.model))
  with tempfile.TemporaryDirectory() as temporary:
    workdir = Path(chosen.workdir or temporary).resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    rows = list(itertools.islice(_rows(chosen.data), chosen.pairs + chosen.questions))
    trained, asked = rows[: chosen.pairs], [row["query"] for row in rows[chosen.pairs :]]
    data, questions = workdir / "pairs.jsonl", workdir / "questions.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in trained))
    questions.write_text(json.dumps(asked))
    settings = {"model": Path(model).name, "pairs": len(trained), "questions": len(asked), "new_tokens": chosen.new}
    before = served(model, asked, chosen.new, workdir / "before.log")
    yield _share("before", [ended for _, ended in before], settings)
    folder = fine_tuned(str(data), model, workdir, more)
    after = served(folder, asked, chosen.new, workdir / "after.log")
    yield _share("after", [ended for _, ended in after], settings)
    command = bench.in_child("end_by_itself", "piped", folder, str(questions), str(chosen.new))
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    theirs: list[Answer] = json.loads(done.stdout.splitlines()[-1])
    yield _share("after.transformers", [ended for _, ended in theirs], settings)
    same = [ours == other for (ours, _), (other, _) in zip(after, theirs, strict=True)]
    yield _share("same_greedy_text", same, settings)


def _rows(data: str) -> Iterator[Any]:
  """The pairs of `data`, or the micro world's problems with their solutions."""
  if data:
    return iter(pairs.open(data))
  return ({"query": problem.question, "response": problem.solution} for problem in catalog.load("micro_gsm:train"))


def _share(name: str, held: Sequence[bool], settings: dict[str, Any]) -> dict[str, Any]:
  share = round(sum(held) / max(1, len(held)), 4)
  return {"name": f"end_by_itself.{name}", "value": share, "unit": "share of answers", "settings": settings}
