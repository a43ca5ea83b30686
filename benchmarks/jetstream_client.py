"""JetStream's own benchmark client (`benchmarks/benchmark_serving.py` of google-jetstream) against our server.

    skymath bench jetstream_client [--requests=200] [--model=asset:micro_teacher]

The client runs unmodified, in a process of its own. It imports pandas and its accuracy module (nltk, evaluate) for uses
that are not made of it here, and seqio (TensorFlow) for a SentencePiece vocabulary: placeholders stand in for the
former, and the sentencepiece library for the latter, with a bos token in front, which seqio does not add. Conversations
are made from the micro world, in a frame that the bundled teacher knows: the client's own statistics fail where every
response is empty, as its responses to bare questions are.
"""

import argparse
import importlib.metadata
import json
import runpy
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sentencepiece

from skymath_jax import models, prompts
from skymath_jax.cli import bench
from skymath_jax.problems import catalog
from skymath_jax.server.process import ServerProcess


def conversations(path: Path, count: int, data_dir: str) -> None:
  """Writes problems and solutions in the form of ShareGPT, which the client reads."""
  frame = prompts.load("metamath/solve")
  rows = [
    {
      "conversations": [
        {"from": "human", "value": frame.render(question=p.question)},
        {"from": "gpt", "value": p.solution},
      ]
    }
    for p in catalog.load("micro_gsm", data_dir=data_dir)[:count]
  ]
  path.write_text(json.dumps(rows))


def client_result(port: str, vocabulary: Path, count: int, folder: Path) -> dict[str, Any]:
  """What the client measured."""
  conversations(folder / "conversations.json", count, str(folder))
  command = bench.in_child("jetstream_client", "client", "--server=127.0.0.1", f"--port={port}")
  command += [f"--tokenizer={vocabulary}"]
  command += ["--dataset=sharegpt", f"--dataset-path={folder / 'conversations.json'}", "--conversation-starter=both"]
  command += [f"--num-prompts={count}", "--max-output-length=64", "--disable-tqdm", "--save-result"]
  command += ["--additional-metadata-metrics-to-save={}"]  # without it the client cannot save
  done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(done.stderr[-2000:])
  [result] = folder.glob("JetStream-*.json")
  return json.loads(result.read_text())["metrics"]


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """Rows: requests completed and tokens/s, by the client's own count."""
  parser = argparse.ArgumentParser("skymath bench jetstream_client")
  parser.add_argument("--requests", type=int, default=200)
  parser.add_argument("--model", default="asset:micro_teacher")
  chosen = parser.parse_args(arguments)
  command = [
    sys.executable,
    "-m",
    "skymath_jax.cli",
    "serve",
    f"--model={chosen.model}",
    "--port=0",
    "--exit_with_parent",
  ]
  with tempfile.TemporaryDirectory() as folder, ServerProcess([*command, "--max_length=256"]) as server:
    server.wait_until_ready(600)
    vocabulary = models.resolve(chosen.model) / "tokenizer.model"
    metrics = client_result(server.address.rsplit(":", 1)[1], vocabulary, chosen.requests, Path(folder))
  yield {
    "name": "serving.jetstream_client.completed",
    "value": metrics["completed"],
    "unit": "requests",
    "peer": chosen.requests,
    "settings": metrics,
  }
  yield {"name": "serving.jetstream_client", "value": metrics["output_throughput"], "unit": "tokens/s"}


class _Vocabulary:
  """What the client asks of `seqio.SentencePieceVocabulary`; prompts begin with the bos token."""

  def __init__(self, path: str, **_: Any):
    self.tokenizer = self.sp_model = sentencepiece.SentencePieceProcessor(model_file=path, add_bos=True)


def client(*arguments: str) -> None:
  """Runs the client's file as its authors do."""
  modules = {name: types.ModuleType(name) for name in ("seqio", "seqio.vocabularies", "pandas", "eval_accuracy")}
  modules["seqio.vocabularies"].SentencePieceVocabulary = _Vocabulary
  modules["seqio.vocabularies"].Vocabulary = _Vocabulary
  modules["eval_accuracy"].eval_accuracy = None
  sys.modules |= modules
  file = importlib.metadata.distribution("google-jetstream").locate_file("benchmarks/benchmark_serving.py")
  sys.argv = [str(file), *arguments]
  runpy.run_path(str(file), run_name="__main__")
