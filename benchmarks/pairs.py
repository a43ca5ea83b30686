"""Every format and every public set, as training data: read, shown, trained for an epoch, resumed bit for bit.

    skymath bench pairs [--rows=40] [--only=NAME]

Forty pairs are written in each format, and in the columns and under the file names in which each public set is
published, into a cache as the hub's client keeps it; nothing is fetched. A run of the bundled base model is stopped
between two checkpoints, started again, and compared with one that was not: every row of metrics and the final weights.
"""

import argparse
import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from skymath_jax import models, sft
from skymath_jax.cli import bench, main
from skymath_jax.records import USER_METHOD, Instance
from skymath_jax.rows.presets import PRESETS
from skymath_jax.sft import pairs
from skymath_jax.training.checkpointing import Checkpointer

Row = dict[str, Any]
SMALL = ("stage1.epochs=1", "rows=2", "max_length=96", "checkpoint_every=2")
STOPPED_AT = 3  # steps: one behind the checkpoint
ORGANISATION = "somebody"
COMMIT = "c" * 40


def made(count: int) -> list[tuple[str, str]]:
  """(query, response) of sums."""
  return [(f"What is {n} + {n + 2}?", f"{n} + {n + 2} = {2 * n + 2}.\nThe answer is {2 * n + 2}") for n in range(count)]


def talk(query: str, response: str, names: Sequence[str] = ("role", "content", "user", "assistant")) -> list[Row]:
  """A conversation of one question and its answer."""
  who, what, asks, says = names
  return [{who: asks, what: query}, {who: says, what: response}]


def _metamath(q: str, a: str) -> list[Row]:
  return [{"type": "MATH_AnsAug", "query": q, "original_question": q, "response": a}]


def _numina(q: str, a: str) -> list[Row]:
  return [{"source": "aops_forum", "problem": q, "solution": a, "messages": talk("another", "text")}]


def _instruct(q: str, a: str) -> list[Row]:
  return [{"problem": q, "generated_solution": a, "expected_answer": "5", "problem_source": "augmented_math"}]


def _reasoning(q: str, a: str) -> list[Row]:
  more = {"expected_answer": "5", "inference_mode": "cot", "pass_rate_72b_tir": "0.5", "problem_source": "aops"}
  kinds = ("has_answer_extracted", "no_answer_extracted")
  return [{"problem": q, "generated_solution": a, "problem_type": kind, **more} for kind in kinds]


def _thoughts(q: str, a: str) -> list[Row]:
  turns = talk(q, a, ("from", "value", "human", "gpt"))
  return [{"difficulty": None, "source": "s", "domain": domain, "conversations": turns} for domain in ("math", "code")]


def _deep(q: str, a: str) -> list[Row]:
  solutions = {f"r1_solution_{n}": text for n, text in ((1, a), (2, ""), (3, ""))}
  return [{"question": q, "final_answer": "5", "difficulty": 6.5, "topic": "Algebra", **solutions}]


def _orca(q: str, a: str) -> list[Row]:
  return [{"question": q, "answer": a}]


# The file of each preset, and the rows in it that one pair becomes
PUBLISHED: dict[str, tuple[str, Callable[[str, str], list[Row]]]] = {
  "metamathqa": ("MetaMathQA-395K.json", _metamath),
  "numinamath-cot": ("data/train-00000-of-00005.parquet", _numina),
  "openmathinstruct-2": ("data/train_1M-00000-of-00001.parquet", _instruct),
  "openmathreasoning": ("data/cot-00000-of-00144.parquet", _reasoning),
  "openthoughts3": ("data/train-00000-of-00120.parquet", _thoughts),
  "deepmath-103k": ("data/train-00000-of-00010.parquet", _deep),
  "orca-math": ("data/train-00000-of-00001.parquet", _orca),
}


def put(path: Path, rows: Sequence[Row]) -> Path:
  """Rows in the format that the end of the name says."""
  path.parent.mkdir(parents=True, exist_ok=True)
  kind = next(s for s in path.suffixes if s in (".jsonl", ".json", ".csv", ".parquet", ".arrow"))
  table, sink = pa.Table.from_pylist(list(rows)), io.BytesIO()
  if kind == ".parquet":
    pq.write_table(table, sink)
  elif kind == ".arrow":
    with pa.ipc.new_stream(sink, table.schema) as writer:
      writer.write_table(table)
  elif kind == ".csv":
    pyarrow.csv.write_csv(table, sink)
  else:
    text = json.dumps(list(rows)) if kind == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    sink.write(text.encode())
  path.write_bytes(_packed(sink.getvalue(), path.suffix))
  return path


def _packed(data: bytes, suffix: str) -> bytes:
  if suffix == ".zst":
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
      stream.write(data)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed
  packers: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
  return packers.get(suffix, bytes)(data)


def cached(hub: Path, repository: str, name: str, rows: Sequence[Row]) -> None:
  """A data set as the hub's client keeps it."""
  folder = hub / f"datasets--{repository.replace('/', '--')}"
  (folder / "refs").mkdir(parents=True, exist_ok=True)
  (folder / "refs" / "main").write_text(COMMIT)
  put(folder / "snapshots" / COMMIT / name, rows)


def sources(folder: Path, hub: Path, wanted: Sequence[tuple[str, str]]) -> dict[str, str]:
  """Name of each format and public set → what `--data` is then; all are written below the folders."""
  plain = [{"question": q, "answer": a} for q, a in wanted]
  files = (
    "a.jsonl",
    "a.json",
    "a.csv",
    "a.parquet",
    "a.arrow",
    *(f"a.jsonl{s}" for s in (".gz", ".bz2", ".xz", ".zst")),
  )
  found = {name.removeprefix("a."): str(put(folder / name, plain)) for name in files}
  found["messages"] = str(put(folder / "messages.jsonl", [{"messages": talk(q, a)} for q, a in wanted]))
  sharegpt = [{"conversations": talk(q, a, ("from", "value", "human", "gpt"))} for q, a in wanted]
  found["ShareGPT's conversations"] = str(put(folder / "sharegpt.jsonl", sharegpt))
  half = len(plain) // 2
  for number, rows in enumerate((plain[:half], plain[half:])):
    put(folder / "shards" / "data" / f"train-0000{number}-of-00002.parquet", rows)
  put(folder / "shards" / "data" / "test-00000-of-00001.parquet", plain[:1])
  found["folder of shards, one split of two"] = f"{folder}/shards:train"
  put(folder / "saved" / "data-00000-of-00001.arrow", plain)
  put(folder / "saved" / "cache-aaaaaaaaaaaaaaaa.arrow", plain * 2)
  (folder / "saved" / "dataset_info.json").write_text("{}")
  (folder / "saved" / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
  found["save_to_disk"] = str(folder / "saved")
  cached(hub, f"{ORGANISATION}/sums", "data/train-00000-of-00001.parquet", plain)
  found["hub id, from the cache"] = f"{ORGANISATION}/sums@main:train"
  instances = [
    Instance(id=q, query=q, response=a, answer="", method=USER_METHOD, parents=(), stage=1) for q, a in wanted
  ]
  sft.write(folder / "curated", instances, name="sums", card="# Sums")
  found["what curate wrote"] = str(folder / "curated")
  put(folder / "first.jsonl", plain[: half // 2])
  found["mixture by weight"] = f"{folder}/first.jsonl:2,{folder}/a.parquet:0.5"
  for name, (file, rows_of) in PUBLISHED.items():
    cached(hub, PRESETS[name].repository, file, [row for pair in wanted for row in rows_of(*pair)])
    found[name] = name
  return found


def expected(name: str, wanted: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
  """The pairs that are to be read."""
  if name == "mixture by weight":
    return [pair for pair in wanted[: len(wanted) // 4] for _ in range(2)] + list(wanted)[1::2]
  return list(wanted)


def train(data: str, workdir: Path, *, stop: bool) -> int:
  """The exit code of `skymath train`; `stop` ends it as Ctrl-C does, after so many steps."""
  calls: list[int] = []

  def check(_: Checkpointer) -> None:
    calls.append(1)
    if stop and len(calls) == STOPPED_AT:
      raise KeyboardInterrupt

  words = [f"--data={data}", "--model=asset:micro_base", f"--workdir={workdir}"]
  with mock.patch.object(Checkpointer, "check", check):
    return main.call(["train", *words, *(f"--config.training.{word}" for word in SMALL)])


def outcome(workdir: Path) -> tuple[list[Any], str]:
  """(rows of metrics without times, hash of the weights)."""
  folder = workdir / "checkpoints" / "stage1"
  rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
  return [[row[key] for key in ("step", "loss", "grad_norm", "loss_tokens")] for row in rows], models.weights_hash(
    folder
  )


def tried(data: str, wanted: Sequence[tuple[str, str]], folder: Path) -> Row:
  """What became of one source: each a truth value but `as`, how it is read."""
  told = io.StringIO()
  read = [(row["query"], row["response"]) for row in pairs.open(data)] == list(wanted)
  with contextlib.redirect_stderr(told):
    trained = train(data, folder / "straight", stop=False) == 0
    stopped = train(data, folder / "stopped", stop=True) == 130
    again = train(data, folder / "stopped", stop=False) == 0
  straight, resumed = outcome(folder / "straight"), outcome(folder / "stopped")
  shown = "is read as: " in told.getvalue() and "examples follow" in told.getvalue()
  reading = told.getvalue().partition("is read as: ")[2].partition(";")[0]
  same = stopped and again and "resuming after step 2 of" in told.getvalue() and straight == resumed
  return {"read": read, "shown": shown, "trained": trained, "resumed": same, "as": " ".join(reading.split()),
          "steps": len(straight[0])}  # fmt: skip


def try_all(folder: str, count: str, only: str) -> None:
  """Prints a line of JSON for each source."""
  root, wanted = Path(folder), made(int(count))
  for number, (name, data) in enumerate(sources(root / "data", root / "home" / "hub", wanted).items()):
    if only in name:
      print(json.dumps([name, tried(data, expected(name, wanted), root / f"run{number}")]), flush=True)


def run(arguments: list[str]) -> Iterator[Row]:
  """Rows: of each source how many of the four hold."""
  parser = argparse.ArgumentParser("skymath bench pairs")
  parser.add_argument("--rows", type=int, default=40)
  parser.add_argument("--only", default="")
  chosen = parser.parse_args(arguments)
  with tempfile.TemporaryDirectory() as folder:
    environment = {**os.environ, "HF_HOME": f"{folder}/home", "HF_HUB_OFFLINE": "1"}
    command = bench.in_child("pairs", "try_all", folder, str(chosen.rows), chosen.only)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as child:
      assert child.stdout is not None
      for line in child.stdout:
        name, found = json.loads(line)
        held = sum(found[key] for key in ("read", "shown", "trained", "resumed"))
        yield {"name": f"pairs.{name}", "value": held, "unit": "of 4", "settings": found}
