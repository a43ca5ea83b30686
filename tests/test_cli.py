"""The command line: it answers at once, and a mistake gets an exit code and one paragraph, never a traceback."""

import importlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skymath_jax import config
from skymath_jax.cli import main as cli

ROOT = Path(__file__).parents[1]
QUICKSTART = f"--config={ROOT / 'configs' / 'quickstart.py'}"


def test_help_is_quick_and_loads_nothing_heavy():
  heavy = "sorted({'jax', 'tensorflow', 'grpc'} & set(sys.modules))"
  code = f"import sys; from skymath_jax.cli import main; main.call(['--help']); print({heavy})"
  start = time.perf_counter()
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
  assert time.perf_counter() - start < 1.0
  assert done.stdout.rstrip().endswith("[]")
  for verb in cli.VERBS:
    assert f"  {verb}" in done.stdout


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_listed_verb_exists_and_has_help(verb, capsys):
  module, function, _ = cli.VERBS[verb]
  with pytest.raises(SystemExit) as stopped:
    getattr(importlib.import_module(f"skymath_jax.{module}"), function)([verb, "--help"])
  assert stopped.value.code == 0
  assert f"usage: skymath {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["quickstart", "quickstart.py", "configs/quickstart.py"])
def test_a_shipped_recipe_is_found_by_its_name_from_any_folder(name, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert cli.call(["config", f"--config={name}"]) == 0
  assert "config.name = 'quickstart'" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["--help", "config", "run --help"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_gets_no_traceback(words, unbuffered):
  command = f"{sys.executable} -m skymath_jax.cli {words} | true"
  environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
  done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment, check=True)
  assert done.stderr == ""


def test_streams_that_are_closed_or_know_few_characters_do(monkeypatch):
  narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
  for stream in (None, narrow):
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as ended:
      cli.main(["config"])
    assert ended.value.code == 0
  narrow.seek(0)
  assert "\\u" in narrow.read()


def test_help_says_what_the_verb_does(capsys):
  with pytest.raises(SystemExit):
    cli.main(["curate", "--help"])
  assert capsys.readouterr().out.startswith("skymath curate: validation, decontamination")


@pytest.mark.parametrize(
  "arguments, code, message",
  [
    ((), 2, ""),
    (("rnu",), 2, "there is no verb 'rnu'"),
    (("run", "--workdir=x"), 2, "--config is missing"),
    (("run", QUICKSTART), 2, "--workdir is missing"),
    (("run", QUICKSTART, "--workdir=x", "--colour=1"), 2, "colour"),
    (("run", QUICKSTART, "--workdir=x", "stray"), 2, "did not expect 'stray'"),
    (("run", "--config=none.py", "--workdir=x"), 1, "none.py: no such config file"),
    (("run", QUICKSTART, "--workdir=x", "--config.trainig.rows=1"), 1, "did you mean config.training.rows?"),
    (
      ("run", QUICKSTART, "--workdir=x", "--config.seeds.sources=a.jsonl", "--config.teacher.modle=b"),
      1,
      "config.teacher.modle: no such key",
    ),
    (("run", QUICKSTART, "--workdir=x", "--config.training.rows=1.5"), 1, "config.training.rows: 1.5 is not"),
    (("run", QUICKSTART, "--workdir=x", "--config.training.rows=0"), 1, "config.training.rows: 0 is too small"),
    (("grade", "--input=x", "--output=y", "--mode=kind"), 2, "--mode=kind is not known"),
    (("grade", "--input=missing.jsonl", "--output=y"), 1, "missing.jsonl"),
    (("grade", "--input=.", "--output=y"), 1, "this is a folder"),
    (("grade", "--input=/dev/null", "--output=y"), 1, "no rows to grade"),
    (("grade", "--input=x", "--output=y", "--workers=-1"), 2, "--workers=-1: give one or more"),
    (("evaluate", QUICKSTART, "--workdir=x", "--compare=a"), 2, "--compare wants two folders"),
    (("study", QUICKSTART, "--workdir=x", "--config.study.sizes=(10, 20)"), 1, "are no study"),
    (("study", QUICKSTART, "--workdir=x", "--config.study.ablations=('colour',)"), 1, "no ablation 'colour'"),
    (("export", "--checkpoint=nowhere", "--out=y"), 1, "nowhere: no such model folder"),
    (("serve", "--model=asset:nobody", "--port=0", "--http_port=0"), 1, "asset:nobody: no such model folder"),
  ],
)
def test_mistakes(arguments, code, message, capfd, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert cli.call(list(arguments)) == code
  said = capfd.readouterr().err
  assert message in said and "Traceback" not in said


def test_bad_seed_files_are_named_with_their_line(tmp_path, capfd):
  (tmp_path / "s.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\nnot json\n')
  for name, message in (("s.jsonl", "s.jsonl:2: this line is not JSON"), ("t.jsonl", "t.jsonl: no such file")):
    source = f"--config.seeds.sources=('{tmp_path / name}',)"
    assert cli.call(["seeds", QUICKSTART, f"--workdir={tmp_path / name}.run", source]) == 1
    assert message in capfd.readouterr().err


def test_a_workdir_keeps_the_config_that_its_folders_were_made_with(tmp_path, capfd):
  arguments, made = ["seeds", QUICKSTART, f"--workdir={tmp_path / 'run'}"], tmp_path / "run/synthesis"
  assert cli.call(arguments) == 0
  made.mkdir()
  assert cli.call([*arguments, "--config.seeds.limit=7"]) == 1
  said = capfd.readouterr().err
  assert "what is in synthesis was made with config.seeds.limit = 400, now it is 7" in said
  assert cli.call([*arguments, "--config.training.stage1.epochs=7", "--config.teacher.prices=(1.0, 0.0)"]) == 0
  said = capfd.readouterr().err
  assert "config.training.stage1.epochs was" in said and "seeds: complete, skipped" in said
  assert cli.call(arguments) == 0  # back again
  (tmp_path / "run/checkpoints").mkdir()
  assert cli.call([*arguments, "--config.training.stage1.epochs=7"]) == 1
  assert "what is in checkpoints was made with config.training.stage1.epochs" in capfd.readouterr().err
  (tmp_path / "run/study").mkdir()
  assert cli.call([*arguments, "--config.evaluation.mode=symbolic"]) == 1
  assert "what is in study was made with config.evaluation.mode" in capfd.readouterr().err
  assert cli.call([*arguments, "--config.study.rng_seeds=5"]) == 0
  (tmp_path / "run/study").rmdir()
  assert cli.call([*arguments, "--config.rng_seed=5"]) == 1
  assert "what is in checkpoints and synthesis was made with config.rng_seed = 0" in capfd.readouterr().err


def test_a_mistake_before_anything_was_made_does_not_bind_the_workdir(tmp_path, capfd):
  workdir = f"--workdir={tmp_path / 'run'}"
  assert cli.call(["seeds", QUICKSTART, workdir, "--config.seeds.sources=('no.jsonl',)"]) == 1
  assert cli.call(["synthesize", QUICKSTART, workdir, "--dry-run", "--config.seeds.limit=7"]) == 0
  assert "config.seeds.sources was ['no.jsonl'] here, now it is" in capfd.readouterr().err
  assert cli.call(["seeds", QUICKSTART, workdir, "--config.seeds.limit=5", "--config.synthesis.pass1.fobar=3.0"]) == 0
  assert json.loads((tmp_path / "run/config.json").read_text())["seeds"]["limit"] == 5
  assert json.loads((tmp_path / "run/seeds/summary.json").read_text())["problems"] == 5


def test_seeds_that_are_test_problems_are_told_before_anything_is_paid(tmp_path, capfd):
  (tmp_path / "s.jsonl").write_text('{"question": "What is $1 + 2$?"}\n{"question": "What is 3 + 4?"}\n')
  (tmp_path / "t.jsonl").write_text('{"question": "What is 1+2?", "answer": "3"}\n')
  arguments = ["seeds", QUICKSTART, f"--config.seeds.sources={tmp_path}/s.jsonl"]
  for name, overlap in (("t", {"s": {f"{tmp_path}/t.jsonl": 1}}), ("none", None)):
    test_set = f"--config.curation.test_sets={tmp_path}/{name}.jsonl"
    assert cli.call([*arguments, test_set, f"--workdir={tmp_path / name}"]) == 0
    assert json.loads((tmp_path / name / "seeds/summary.json").read_text())["in_test_sets"] == overlap
    said = capfd.readouterr().err
    assert ("1 seed problems of s are problems of" in said) == (overlap is not None)
    assert ("not compared with the test sets" in said) == (overlap is None)


@pytest.mark.parametrize("address", ["https://example.org/x", "ftp://x/y"])
@pytest.mark.parametrize(
  "words",
  [
    "seeds --config=quickstart --workdir={}",
    "doctor {}",
    "grade --input={} --output=x",
    "decontaminate x --against=micro_gsm:test --out={}",
    "train --data={} --model=asset:micro_base --workdir=w",
    "train --data=x.jsonl --model={} --workdir=w",
    "leaderboard {}",
    "verify {}",
    "watch {}",
  ],
)
def test_an_address_that_is_not_read_is_named(words, address, capfd, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert cli.call(words.format(address).split()) == 1
  said = capfd.readouterr().err
  assert f"{address}: an address of this kind is not read" in said and "Traceback" not in said


def test_a_workdir_with_somebody_s_own_files_is_refused(tmp_path, capfd):
  (tmp_path / "seeds").mkdir()
  (tmp_path / "seeds" / "problems.jsonl").write_text("mine")
  assert cli.call(["seeds", "--config=quickstart", f"--workdir={tmp_path}"]) == 1
  assert "seeds/ holds what no run of skymath has made (problems.jsonl, …)" in capfd.readouterr().err
  assert (tmp_path / "seeds" / "problems.jsonl").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_refused(capfd):
  assert cli.call(["seeds", QUICKSTART, "--workdir=/proc/skymath"]) == 1
  assert "/proc/skymath: cannot write here" in capfd.readouterr().err


def test_a_problem_without_answer_is_refused_where_one_is_needed(tmp_path, capfd):
  (tmp_path / "s.jsonl").write_text('{"question": "Ann has 3 pens. She buys 4. How many has she now?"}\n')
  source = f"--config.seeds.sources=('{tmp_path / 's.jsonl'}',)"
  arguments = ["synthesize", QUICKSTART, f"--workdir={tmp_path / 'run'}", source]
  nobody = ["--config.teacher.backend=openai", "--config.teacher.base_url=http://127.0.0.1:9/v1"]
  assert cli.call([*arguments, *nobody]) == 1
  said = capfd.readouterr().err
  assert "answer" in said and "fobar" in said and "Traceback" not in said
  assert "seeds/problems.jsonl: 1 of 1 problems have no answer" in said and "of s (" in said
  assert cli.call([*arguments, *nobody, "--dry-run"]) == 1  # the rehearsal finds it, too


def test_hard_levels_that_no_seed_has_are_refused_before_the_first_request(tmp_path, capfd):
  (tmp_path / "s.jsonl").write_text('{"question": "2 + 3 = ?", "answer": "5", "level": 2}\n')
  arguments = ["synthesize", QUICKSTART, f"--workdir={tmp_path / 'run'}", f"--config.seeds.sources={tmp_path}/s.jsonl"]
  nobody = ["--config.teacher.backend=openai", "--config.teacher.base_url=http://127.0.0.1:9/v1"]
  assert cli.call([*arguments, *nobody]) == 1
  assert "no seed problem has a level of [4, 5]; the levels are [2]" in capfd.readouterr().err


def test_a_rehearsal_without_prices_names_no_cost(tmp_path, capfd):
  (tmp_path / "s.jsonl").write_text('{"question": "2 + 3 = ?", "answer": "5", "level": 5}\n')
  arguments = ["synthesize", QUICKSTART, f"--config.seeds.sources={tmp_path}/s.jsonl", "--dry-run"]
  assert cli.call([*arguments, f"--workdir={tmp_path / 'a'}"]) == 0
  said = capfd.readouterr()
  assert json.loads(said.out)["total"]["cost"] is None and "config.teacher.prices" in said.err
  assert cli.call([*arguments, f"--workdir={tmp_path / 'b'}", "--config.teacher.prices=(0.0, 1000.0)"]) == 0
  assert json.loads(capfd.readouterr().out)["total"]["cost"] > 1


def test_a_server_that_does_not_answer_is_named(tmp_path, capfd):
  arguments = ["synthesize", QUICKSTART, f"--workdir={tmp_path / 'run'}"]
  assert cli.call([*arguments, "--config.teacher.addresses=('127.0.0.1:9',)"]) == 1
  said = capfd.readouterr().err
  assert "127.0.0.1:9: no healthy JetStream server answers here" in said and "Traceback" not in said


def test_config_lists_every_key(capsys):
  assert cli.call(["config"]) == 0
  listed = capsys.readouterr().out
  for name, key in config.KEYS.items():
    assert f"config.{name} = " in listed and key.meaning in listed
