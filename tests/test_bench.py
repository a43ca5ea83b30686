"""The benchmark verb: every entry exists, rows have one form, a wrong name is told."""

import ast
import contextlib
import inspect
import json
import os
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from skymath_jax import records
from skymath_jax.cli import bench
from skymath_jax.cli import main as cli

ROOT = Path(__file__).parents[1]
SHARED = {"serving_bare", "serving_client", "tpu_step_tunix"}  # parts of others


def test_the_table_and_the_folder_name_the_same():
  assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == set(bench.BENCHMARKS) | SHARED


@pytest.mark.parametrize("name", bench.BENCHMARKS)
def test_every_benchmark_starts_one_way_and_says_how(name):
  module = bench.module(name)
  assert callable(module.run) and f"skymath bench {name}" in module.__doc__
  assert name == "house" or not any(isinstance(node, ast.If) for node in ast.parse(inspect.getsource(module)).body)


def test_a_row_gets_all_keys_and_its_ratio():
  assert list(bench.line({"name": "x", "value": 3.0, "unit": "s", "peer": 2.0})) == list(bench.KEYS)
  assert bench.line({"name": "x", "value": 3.0, "unit": "s", "peer": 2.0})["ratio"] == 1.5
  assert bench.line({"name": "x", "value": 3.0, "unit": "s"})["ratio"] is None
  with pytest.raises(ValueError, match="'cores'"):
    bench.line({"name": "x", "value": 1, "unit": "s", "cores": 2})


def test_an_unknown_name_is_wrong_usage(capsys):
  assert cli.call(["bench", "speed"]) == 2
  assert "there is no benchmark 'speed'" in capsys.readouterr().err


def test_input_prints_one_json_line_a_measurement(capsys):
  assert cli.call(["bench", "input", "--examples=3000", "--seconds=0.2"]) == 0
  rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
  assert rows["input.fill"]["value"] >= 0.98
  assert rows["input.batches"]["ratio"] > 0


def test_train_measures_a_whole_slice_as_the_recipe_cuts_it():
  """Eight fake devices stand for the slice's; other than eight are refused."""
  words = ["bench", "train", "--model=tiny", "--steps=1", "--set=training.max_length=128"]
  whole, other = (
    subprocess.run(
      [sys.executable, "-m", "skymath_jax.cli", *words, f"--hardware={name}"],
      env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"},
      capture_output=True, text=True, check=False,
    )
    for name in ("v5p-16", "v5e-16")
  )  # fmt: skip
  assert other.returncode == 1 and "v5e-16 has 16 devices, JAX sees 8" in other.stderr
  row = json.loads(whole.stdout)
  assert row["name"] == "train.tiny.v5p-16" and row["settings"]["mesh"]["fsdp"] == 8
  assert row["value"] == pytest.approx(8 * row["settings"]["tokens_per_second_a_device"], rel=1e-3)
  assert all(5 < loss < 7 for loss in row["settings"]["loss"])  # 256 tokens of random weights


@pytest.mark.slow
def test_train_measures_the_trainers_own_step(capsys):
  """On a CPU at a size that means nothing: the command that is ready for an H200 runs, and counts right."""
  words = ["--model=tiny", "--rows=2", "--length=128", "--steps=2", "--examples=3", "--scan"]
  assert cli.call(["bench", "train", *words]) == 0
  alone, packed = map(json.loads, capsys.readouterr().out.splitlines())
  assert (alone["name"], packed["name"]) == ("train.tiny", "train.tiny.packed")
  assert alone["value"] > 0 and alone["settings"]["mfu"] is None
  share = packed["settings"]["loss_tokens_per_second"] / packed["value"]
  assert share == pytest.approx((2 * 29 + 28) / 128, rel=0.01)  # segments of 43, 43 and 42 tokens, 14 of them prompt


@pytest.mark.slow
def test_a_wheel_brings_benchmarks_and_recipes_to_an_empty_folder(tmp_path):
  pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path / "wheel")]
  subprocess.run([*pip, str(ROOT)], check=True, timeout=300)
  [wheel] = (tmp_path / "wheel").iterdir()
  zipfile.ZipFile(wheel).extractall(tmp_path / "site")
  (tmp_path / "empty").mkdir()
  for words in (
    "bench input --examples=3000 --seconds=0.2",
    "config --config=quickstart",
    "run --config=quickstart --help",
  ):
    done = subprocess.run(
      [sys.executable, "-m", "skymath_jax.cli", *words.split()],
      env=os.environ | {"PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"},
      cwd=tmp_path / "empty", capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


WITHOUT_SERVER = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
  def find_spec(self, name, *_):
    if name.split(".")[0] in ("jetstream", "tensorflow", "tensorflow_datasets", "seqio", "grpc", "aiohttp"):
      raise ImportError(name + " is not here")
sys.meta_path.insert(0, Absent())
from skymath_jax.cli import main as cli
from skymath_jax.cli import bench
bench.module("h200_decode")
if sys.argv[1:]:
  sys.exit(cli.call(["bench", "h200_decode", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(
  "words", [[], pytest.param(["--model=tiny", "--slots=4", "--requests=2", "--engine_only"], marks=pytest.mark.slow)]
)
def test_decode_on_a_gpu_is_measured_where_jetstream_and_tensorflow_are_absent(words):
  """Imported, and run at a size that means nothing; where they are installed a second row goes through gRPC."""
  environment, command = os.environ | {"JAX_PLATFORMS": "cpu"}, [sys.executable, "-c", WITHOUT_SERVER, *words]
  done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
  assert done.returncode == 0, done.stderr[-2000:]
  for row in map(json.loads, done.stdout.splitlines()):
    assert row["name"] == "h200_decode.tiny.engine" and row["value"] > 0 and row["settings"]["requests"] == 2
  assert len(done.stdout.splitlines()) == bool(words)


def test_real_sizes_carries_answers_over_and_never_over_others(tmp_path):
  """An open database's log is among them; a workdir that has answers keeps its own."""
  sizes = bench.module("real_sizes")
  small, large = (tmp_path / name / "synthesis/stage1/responses.sqlite" for name in ("100", "300"))
  small.parent.mkdir(parents=True)
  with contextlib.closing(sqlite3.connect(small)) as store:
    store.execute("pragma journal_mode=wal")
    store.execute("create table answers (text)")
    store.execute("insert into answers values ('paid')")
    store.commit()
    for text in ("later", "again"):
      sizes.copy_answers(tmp_path / "100", tmp_path / "300")
      store.execute("insert into answers values (?)", (text,))
      store.commit()
  with contextlib.closing(sqlite3.connect(large)) as store:
    assert store.execute("select text from answers").fetchall() == [("paid",)]
  assert [path.name for path in large.parent.iterdir()] == [large.name]


def test_real_sizes_counts_what_each_model_got_right_and_learned_from(tmp_path):
  workdir = tmp_path / "100"
  records.write_lines(workdir / "sft/stage1/kept.jsonl", [{}] * 3)
  records.write_lines(workdir / "sft/stage2/kept.jsonl", [{}])
  texts = [("The answer is 4", "stop"), (r"so \boxed{4}", "stop"), ("The answer is 5", "stop"), ("four, sin", "length")]
  answers = [{"gold": "4", "response": text, "finish_reason": reason} for text, reason in texts]
  for model in ("base", "stage1", "stage2"):
    records.write_lines(workdir / "evaluation" / model / "predictions.jsonl", answers)
  (workdir / "summary.json").write_text('{"seconds": {}}')
  rows = list(bench.module("real_sizes").rows_of(workdir))
  assert [row["settings"]["kept"] for row in rows] == [{}, {"stage1": 3}, {"stage1": 3, "stage2": 1}]
  for row in rows:
    assert row["settings"]["right"] == {"symbolic": 2, "strict": 1}
    assert (row["value"], row["settings"]["cut_off"]) == (0.5, 1)


@pytest.mark.parametrize("word", ["--workdir=x", "--config.seeds.limit=3", "--config.evaluation.models=('base',)"])
def test_real_sizes_refuses_what_it_chooses_itself(word, tmp_path, capsys):
  with pytest.raises(SystemExit, match="2"):
    list(bench.module("real_sizes").run([str(tmp_path), "--seeds=1", word]))
  assert "is chosen for each size" in capsys.readouterr().err


def test_real_sizes_ends_as_its_run_ended(tmp_path):
  with pytest.raises(SystemExit, match="1"):
    list(bench.module("real_sizes").run([str(tmp_path), "--seeds=1", f"--config={tmp_path / 'none.py'}"]))
