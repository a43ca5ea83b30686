"""A workdir as a finished run leaves it, made up but self-consistent: its summary is counted from its rows."""

import json
import random
import shutil

import pytest

from skymath_jax import files, records
from skymath_jax.records import Instance, Problem, stable_id
from skymath_jax.statistics import wilson

METHODS = (
  "metamath.answer_augmentation", "metamath.rephrase", "metamath.self_verification", "metamath.fobar",
  "evol.new_problem", "evol.add_constraint", "evol.deepen", "evol.concretize", "evol.add_reasoning", "xwin",
)  # fmt: skip
SUBJECTS = ("shopping", "sharing", "travel", "garden")
SKILL = {"base": 0.22, "stage1": 0.78, "stage2": 0.93}  # of level 1; each further level is harder
ATTACK = "<script>alert('planted')</script><img src=http://evil.example/x.png onerror=alert(1)>"


def _question(rng: random.Random) -> str:
  a, b = rng.randint(3, 40), rng.randint(2, 9)
  name = rng.choice(("Mia", "Ben", "Zoë", "Lin", "Omar"))
  return f"{name} has {a} red marbles and gets {b} more each day for {rng.randint(2, 6)} days. How many in the end?"


def _instance(rng, method, parent, stage, number):
  answer = str(rng.randint(4, 200))
  steps = " ".join(
    f"Then {rng.randint(2, 9)} + {rng.randint(2, 90)} = {rng.randint(4, 99)}." for _ in range(rng.randint(1, 6))
  )
  query, response = _question(rng), f"First we count what is there. {steps}\nThe answer is {answer}"
  return Instance(
    id=stable_id(method, query, response), query=query, response=response, answer=answer, method=method,
    parents=(parent,), stage=stage, synthesis_pass=number, teacher="micro_teacher@0123456789abcdef",
    sampling={"temperature": 0.7, "top_p": 1.0, "max_tokens": 256, "seed": rng.randint(0, 9999)},
    prompt={"name": f"metamath/{method.split('.')[-1]}", "hash": stable_id(method)},
    gold_match=rng.choice((True, True, False, None)), tokens=12 + len(response) // 3,
  )  # fmt: skip


def _synthesis(workdir, rng, seeds):
  made = {1: [], 2: []}
  first = [_instance(rng, m, rng.choice(seeds).id, 1, 1) for m in METHODS for _ in range(40)]
  chosen = [Problem.create("synthetic", i.query, answer=i.answer) for i in first[::7]]
  records.write_lines(workdir / "synthesis/stage1/coreset.jsonl", chosen)
  second = [_instance(rng, m, rng.choice(chosen).id, 1, 2) for m in METHODS for _ in range(25)]
  made[1], made[2] = first + second, [_instance(rng, m, rng.choice(seeds).id, 2, 1) for m in METHODS for _ in range(30)]
  for stage, instances in made.items():
    folder = workdir / f"synthesis/stage{stage}"
    records.write_lines(folder / "instances.jsonl", instances)
    rejected = {"no_answer_line": 21 * stage, "unparsable_question": 9, "evolution_eliminated": 14}
    passes = [{"rejected": rejected, "requests": {"sent": len(instances) + 200, "replayed": 0},
               "tokens": {"completion": 41000}, "seconds": 30.2}]  # fmt: skip
    extra = {"coreset": len(chosen)} if stage == 1 else {"seeds": 160}
    summary = {
      **extra,
      "instances": len(instances),
      "passes": passes,
      "stored": len(instances) + 200,
      "server_requests": 850,
    }
    files.write_json(folder / "summary.json", summary)
  return made


def _curation(workdir, made):
  kept = {}
  for stage, instances in made.items():
    total, steps = len(instances), []
    for name, lost in (
      ("format", 3),
      ("decontamination", 12 * stage),
      ("exact_duplicates", 8),
      ("near_duplicates", 31),
    ):
      steps.append({"name": name, "in": total, "out": total - lost, "dropped": {name.removesuffix("s"): lost}})
      total -= lost
    kept[stage] = instances[:total]
    folder = workdir / f"sft/stage{stage}"
    records.write_lines(folder / "kept.jsonl", kept[stage])
    files.write_json(folder / "summary.json", {"steps": steps})
  return kept


def _training(workdir, rng):
  for stage, (steps, start) in {"stage1": (420, 2.4), "stage2": (130, 0.9)}.items():
    rows = [
      {"step": s, "loss": 0.35 + (start - 0.35) * 0.985**s + rng.gauss(0, 0.06), "grad_norm": 1.0,
       "learning_rate": 1e-3, "tokens": 4096, "loss_tokens": 2000, "seconds": 0.21, "mfu": None}
      for s in range(1, steps + 1)
    ]  # fmt: skip
    records.write_lines(workdir / f"checkpoints/{stage}/metrics.jsonl", rows)


def _evaluation(workdir, rng):
  accuracy, tests = {}, [Problem.create("test", _question(rng) + f" ({i})") for i in range(500)]
  for model, skill in SKILL.items():
    rows = []
    for index, problem in enumerate(tests):
      level, gold = index % 5 + 1, str(index + 3)
      correct = rng.random() < skill * (1 - 0.16 * (level - 1))
      response = f"We add the parts.\nThe answer is {gold if correct else index + 4}" + (
        ATTACK if index % 3 == 0 else ""
      )
      rows.append({
        "id": problem.id, "query": problem.question, "gold": gold, "response": response, "level": level,
        "extracted": gold if correct else (None if index % 11 == 0 else str(index + 4)), "correct": correct,
        "subject": SUBJECTS[index % 4], "finish_reason": "length" if not correct and index % 7 == 0 else "stop",
      })  # fmt: skip
    records.write_lines(workdir / f"evaluation/{model}/predictions.jsonl", rows)
    accuracy[model] = _accuracy(rows)
    files.write_json(
      workdir / f"evaluation/{model}/summary.json", {"name": "micro_gsm:test", "accuracy": accuracy[model]}
    )
  return accuracy


def _accuracy(rows):
  def mean(chosen):
    return sum(r["correct"] for r in chosen) / len(chosen)

  return {
    "all": mean(rows), "n": len(rows), "ci95": list(wilson(sum(r["correct"] for r in rows), len(rows))),
    "n_by_level": {str(v): sum(r["level"] == v for r in rows) for v in range(1, 6)},
    "by_level": {str(v): mean([r for r in rows if r["level"] == v]) for v in range(1, 6)},
    "by_subject": {v: mean([r for r in rows if r["subject"] == v]) for v in SUBJECTS},
  }  # fmt: skip


def _summary(workdir, kept, accuracy):
  methods = [i.method for instances in kept.values() for i in instances]
  dropped = {}
  for path in (*workdir.glob("synthesis/*/summary.json"), *workdir.glob("sft/*/summary.json")):
    facts = json.loads(path.read_text())
    for found in [p["rejected"] for p in facts.get("passes", [])] + [s["dropped"] for s in facts.get("steps", [])]:
      for reason, count in found.items():
        dropped[reason] = dropped.get(reason, 0) + count
  return {
    "name": "quickstart", "seed": 0, "config_hash": "89abcdef01234567", "accuracy": accuracy,
    "instances": {"kept": len(methods), "dropped": dropped, "by_method": {m: methods.count(m) for m in METHODS}},
    "oracle": {m: {"n": methods.count(m), "valid_question": 0.97 - 0.03 * i, "right_answer": 0.93 - 0.05 * i}
               for i, m in enumerate(METHODS)},
    "requests": {"client": 1150, "server": 1150, "stored": 1150, "replayed": 0},
    "export": {"folder": "runs/quickstart/export/stage2/model", "max_abs_logit_diff": 3.1e-6},
    "seconds": {"seeds": 0.4, "synthesize stage 1": 61.2, "curate stage 1": 3.3, "train stage 1": 88.9,
                "synthesize stage 2": 30.7, "curate stage 2": 1.9, "train stage 2": 27.4, "evaluate base": 14.0,
                "evaluate stage1": 12.1, "evaluate stage2": 12.5, "export": 6.0},
    "tokens_per_second": {"synthesize": 2712.4, "train stage 1": 19504.2, "evaluate base": 2201.0},
  }  # fmt: skip


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
  """The workdir of a finished run; tests only read it."""
  workdir, rng = tmp_path_factory.mktemp("finished"), random.Random(7)
  seeds = [Problem.create("micro_gsm", _question(rng) + f" [{i}]", answer=str(i), level=i % 5 + 1) for i in range(400)]
  records.write_lines(workdir / "seeds/problems.jsonl", seeds)
  files.write_json(workdir / "seeds/summary.json", {"problems": len(seeds)})
  kept = _curation(workdir, _synthesis(workdir, rng, seeds))
  _training(workdir, rng)
  accuracy = _evaluation(workdir, rng)
  evaluation = {"benchmarks": ["micro_gsm:test"], "temperature": 0.0, "models": ["base", "stage1", "stage2"]}
  files.write_json(workdir / "config.json", {"name": "quickstart", "rng_seed": 0, "evaluation": evaluation})
  files.write_json(workdir / "summary.json", _summary(workdir, kept, accuracy))
  return workdir


@pytest.fixture
def copy(finished, tmp_path):
  """The same workdir, to be damaged."""
  return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture
def attack():
  """What a model might write to take over the page."""
  return ATTACK
