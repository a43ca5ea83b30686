"""`skymath run` through the command line: every artefact of the contract is there and says the same thing."""

import json
import sqlite3

import numpy as np
import torch
import transformers

from skymath_jax import models, prompts, records
from skymath_jax.cli import main as cli
from skymath_jax.models import training_prompt
from skymath_jax.records import Instance, Problem
from tests.support.small_recipe import command


def rows(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_artefact_of_the_contract_is_there(small_run):
  workdir, summary, _ = small_run
  for name in (
    "config.json", "summary.json", "report.html", "seeds/problems.jsonl", "synthesis/stage1/responses.sqlite",
    "synthesis/stage1/instances.jsonl", "synthesis/stage2/instances.jsonl", "sft/stage1/card.md",
    "sft/stage2/summary.json",
    "checkpoints/stage1/metrics.jsonl", "checkpoints/stage2/metrics.jsonl", "evaluation/base/predictions.jsonl",
    "evaluation/stage2/summary.json", "export/stage2/config.json",
  ):  # fmt: skip
    assert (workdir / name).is_file(), name
  assert set(summary["accuracy"]) == {"base", "stage1", "stage2"}
  assert summary["seed"] == 0 and len(summary["config_hash"]) == 16
  assert summary["instances"]["kept"] == sum(summary["instances"]["by_method"].values()) > 0


def test_every_teacher_token_came_through_the_server(small_run):
  workdir, summary, _ = small_run
  stored = 0
  for stage in ("stage1", "stage2"):
    with sqlite3.connect(workdir / "synthesis" / stage / "responses.sqlite") as db:
      stored += db.execute("SELECT count(*) FROM responses").fetchone()[0]
  assert summary["requests"]["client"] == summary["requests"]["server"] == summary["requests"]["stored"] == stored > 0


def test_every_instance_has_its_chain_to_a_seed(small_run):
  workdir, _, _ = small_run
  seeds = {p.id for p in records.read(Problem, workdir / "seeds" / "problems.jsonl")}
  instances = [
    i for n in (1, 2) for i in records.read(Instance, workdir / "synthesis" / f"stage{n}" / "instances.jsonl")
  ]
  by_id = {i.id: i for i in instances}
  synthetic = {p.id: p for p in records.read(Problem, workdir / "synthesis" / "stage1" / "coreset.jsonl")}
  assert {i.method.split(".")[0] for i in instances} == {"metamath", "evol", "xwin"}
  for instance in instances:
    assert instance.response.endswith(f"\nThe answer is {instance.answer}")
    chain = instance
    for _ in range(20):
      parent = chain.parents[-1]
      if parent in seeds:
        break
      assert parent in by_id or parent in synthetic, f"{instance.id}: parent {parent} is unknown"
      chain = by_id[parent] if parent in by_id else synthetic[parent]
    assert chain.parents[-1] in seeds


def test_the_export_is_the_model_for_transformers(small_run):
  workdir, summary, _ = small_run
  assert summary["export"]["max_abs_logit_diff"] <= 1e-4 and summary["export"]["same_greedy_text"] is True
  assert summary["export"]["compared_with"].startswith("transformers")
  tokenizer = transformers.AutoTokenizer.from_pretrained(workdir / "export" / "stage2")
  model = transformers.AutoModelForCausalLM.from_pretrained(workdir / "export" / "stage2", dtype=torch.float32)
  row = rows(workdir / "evaluation" / "stage2" / "predictions.jsonl")[0]
  prompt = prompts.load("sft/alpaca").render(query=row["query"])
  ids = [tokenizer.bos_token_id, *tokenizer.encode(prompt, add_special_tokens=False)]
  out = model.generate(torch.tensor([ids]), max_new_tokens=160, do_sample=False, eos_token_id=tokenizer.eos_token_id)
  text = tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)
  assert text.strip() == row["response"].strip()


def test_the_prompt_of_training_is_known_wherever_the_model_goes(small_run):
  """A checkpoint and its export name the prompt that an evaluation is compared with; a foreign model names none."""
  workdir, _, _ = small_run
  wanted = training_prompt.TrainingPrompt("sft/alpaca", prompts.load("sft/alpaca").hash)
  assert training_prompt.read(workdir / "checkpoints" / "stage1") == wanted
  assert training_prompt.read(workdir / "export" / "stage2") == wanted
  assert training_prompt.read(models.resolve("asset:micro_teacher")) is None
  for name in ("base", "stage2"):
    summary = json.loads((workdir / "evaluation" / name / "summary.json").read_text())
    assert ("template_hash" in summary["provenance"]) == (name != "base") and summary["warnings"] == []
  tasks = rows(workdir / "export" / "stage2" / "lm_eval" / "skymath_micro_gsm_test.jsonl")
  predictions = rows(workdir / "evaluation" / "stage2" / "predictions.jsonl")
  assert [row["id"] for row in predictions] == [row["id"] for row in tasks][: len(predictions)]


def test_the_export_has_a_card_with_data_evaluation_and_config(small_run):
  workdir, summary, _ = small_run
  card = (workdir / "export" / "stage2" / "README.md").read_text()
  assert card.startswith("---\nlibrary_name: transformers\n")
  assert f"Config hash `{summary['config_hash']}`" in card
  for name, accuracy in summary["accuracy"].items():
    assert f"| {name} | micro_gsm:test | {accuracy['all']:.1%} [" in card
  kept = json.loads((workdir / "sft" / "stage2" / "summary.json").read_text())["kept"]
  assert f"{kept:,} pairs of query and response" in card
  assert "| metamath.rephrase |" in card
  assert "| learning_rate |" in card


def test_a_second_run_does_nothing_and_says_so(small_run, capfd):
  workdir, summary, _ = small_run
  before = (workdir / "sft" / "stage1" / "COMPLETE.json").stat().st_mtime_ns
  assert cli.call(command(workdir)[3:]) == 0
  assert capfd.readouterr().err.count("complete, skipped") >= 10
  assert (workdir / "sft" / "stage1" / "COMPLETE.json").stat().st_mtime_ns == before
  assert json.loads((workdir / "summary.json").read_text())["accuracy"] == summary["accuracy"]


def test_training_metrics_are_whole(small_run):
  workdir, _, _ = small_run
  for stage in ("stage1", "stage2"):
    found = rows(workdir / "checkpoints" / stage / "metrics.jsonl")
    assert [row["step"] for row in found] == list(range(1, len(found) + 1))
    assert all(np.isfinite(row["loss"]) and row["loss_tokens"] < row["tokens"] for row in found)
