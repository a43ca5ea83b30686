"""A study without training: instances of the micro world's shape, a trainer that remembers, answers by a formula."""

import random

import numpy as np

from skymath_jax import config as config_lib
from skymath_jax import files, records, sft
from skymath_jax.evaluation import summarize
from skymath_jax.records import Instance, stable_id
from skymath_jax.study import cells

METHODS = ("metamath.rephrase", "metamath.fobar", "evol.deepen", "evol.concretize", "xwin")
PROBLEMS = 60


def instance(number, stage=1):
  query = f"Stage {stage}: what is {number} + {number % 7}?"
  return Instance(
    id=stable_id(stage, number), query=query, response=f"We add.\nThe answer is {number}", answer=str(number),
    method=METHODS[number % len(METHODS)], parents=("seed",), stage=stage, level=number % 5 + 1,
    gold_match=number % 3 != 0,
  )  # fmt: skip


def settings(**changes):
  c = config_lib.base()
  c.name = "fake study"
  c.seeds.sources, c.curation.test_sets = ("fake.jsonl",), ("micro_gsm:test",)
  c.model.path = "asset:micro_base"
  c.study.sizes, c.study.ablation_size, c.study.rng_seeds = (10, 20, 40, 80, 160), 20, 2
  c.study.update(changes)
  return config_lib.resolve(c)


class Fake:
  """Stands for `training.train` and `recipe.evaluate.evaluate_model`; notes what was trained, on what, from where."""

  def __init__(self):
    self.trained, self.evaluated, self.stop_at = [], [], None

  def train(self, decoder, tokenizer, source, folder, settings, stage, *, rng_seed, **_):
    name = folder.parent.name
    if name == self.stop_at:
      raise KeyboardInterrupt
    if not folder.exists():  # the real one returns at once where a run is complete
      self.trained.append((name, len(source), stage.learning_rate, rng_seed))
      folder.mkdir(parents=True)
    (folder / "model.json").write_text(name)
    return {"steps": 3, "examples": len(source), "tokens": 30, "loss_tokens": 9, "loss": 0.5}

  def evaluate(self, config, folder, path, benchmarks):
    assert str(path).startswith("asset:") or (path / "model.json").exists()
    self.evaluated.append(folder.name)
    size = sum(int(part) for part in folder.name.replace("+", "-").replace(".", "-").split("-") if part.isdigit())
    rng = np.random.default_rng(int(stable_id(folder.name)[:7], 16))
    luck = np.random.default_rng(0).random(PROBLEMS) * 0.5 + rng.random(PROBLEMS) * 0.5
    rows = [
      {"id": str(i), "sample": 0, "query": f"q{i}", "response": f"r {folder.name}", "gold": "1", "extracted": "1",
       "correct": bool(luck[i] < size / 400), "level": i % 5 + 1, "subject": None, "characters": 50,
       "finish_reason": "stop", "prompt_tokens": 5, "tokens": 5}
      for i in range(PROBLEMS)
    ]  # fmt: skip
    records.write_lines(folder / "predictions.jsonl", rows)
    summary = summarize(rows)
    files.write_json(folder / "summary.json", summary)
    return {benchmarks[0]: summary}


def in_place(monkeypatch) -> Fake:
  """A `Fake` where `study` trains and evaluates."""
  found = Fake()
  monkeypatch.setattr(cells.training, "train", found.train)
  monkeypatch.setattr(cells.evaluate, "evaluate_model", found.evaluate)
  monkeypatch.setattr(cells.models, "load_any", lambda path, **_: (path, None))
  monkeypatch.setattr(cells.train, "as_trained", lambda decoder, config: decoder)
  return found


def write_sets(workdir, salt=0):
  for stage, count in ((1, 400), (2, 60)):
    kept = [instance(n + salt, stage) for n in range(count)]
    random.Random(stage).shuffle(kept)
    sft.write(workdir / "sft" / f"stage{stage}", kept, name="fake", card="# fake")
    records.write_lines(workdir / "sft" / f"stage{stage}" / "kept.jsonl", kept)
