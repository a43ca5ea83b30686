"""Sampling and reading, each on its own."""

import pytest

from skymath_jax import files, records
from skymath_jax.report import html, read, samples
from skymath_jax.statistics import Estimate


def test_clean_keeps_text_and_spaces_and_replaces_the_rest():
  kept = "a\u00a0b\u2009c\u3000d\te\nf é 数 🙂 ½"
  assert html.clean(kept) == kept
  assert html.clean("a\r\nb\rc\0d\u202ee\ud800f\u2028g") == "a\nb\ufffdc\ufffdd\ufffde\ufffdf\ufffdg"
  assert html.clean("x" * 12, 10) == "x" * 10 + " … (2 more characters)"
  assert html.clean("x" * 11, 10) == "x" * 11
  assert html.clean(None) == ""
  assert html.clean(0) == "0"


def problem(id, **more):
  return {"id": id, "source": "s", "question": f"question {id}", **more}


def instance(id, parent, **more):
  return {
    "id": id,
    "method": "m",
    "query": f"query {id}",
    "response": "r",
    "parents": [parent],
    "stage": 1,
    "pass": 1,
    **more,
  }


def workdir_with(path, seeds, instances, coreset=()):
  records.write_lines(path / "seeds/problems.jsonl", seeds)
  records.write_lines(path / "synthesis/stage1/instances.jsonl", instances)
  records.write_lines(path / "synthesis/stage1/coreset.jsonl", coreset)
  return path


def ids(chain):
  return [(row["kind"], row["id"]) for row in chain]


def test_ancestry_goes_through_the_second_pass_by_text_of_the_selected_problem(tmp_path):
  made = [instance("i1", "p1"), instance("i2", "c1", **{"pass": 2})]
  selected = problem("c1") | {"question": "query i1"}
  workdir = workdir_with(tmp_path, [problem("p1"), problem("p2")], made, [selected])
  (chain,) = samples.ancestries(workdir, [made[1]])
  assert ids(chain) == [("seed problem", "p1"), ("instance", "i1"), ("instance", "i2")]


def test_ancestry_goes_through_the_second_pass_by_instance_id(tmp_path):
  made = [instance("i1", "p1"), instance("i2", "i1", **{"pass": 2})]
  workdir = workdir_with(tmp_path, [problem("p1")], made, [problem("i1")])
  (chain,) = samples.ancestries(workdir, [made[1]])
  assert ids(chain) == [("seed problem", "p1"), ("instance", "i1"), ("instance", "i2")]


def test_ancestry_ends_at_lost_parents_and_circles(tmp_path):
  circle = [instance("a", "b"), instance("b", "a")]
  workdir = workdir_with(tmp_path, [], [*circle, instance("orphan", "gone")])
  lost, round_trip = samples.ancestries(workdir, [instance("orphan", "gone"), circle[0]])
  assert ids(lost) == [("lost", "gone"), ("instance", "orphan")]
  assert ids(round_trip) == [("lost", "a"), ("instance", "b"), ("instance", "a")]


def test_census_counts_and_draws_by_rule(tmp_path):
  rows = [
    instance("b", "p", gold_match=True),
    instance("a", "p", gold_match=False),
    instance("z", "p", **{"pass": 2}),
    instance("y", "p", method="n"),
  ]
  found = samples.census(workdir_with(tmp_path, [], rows))
  assert found.methods == {"stage1": {"m": 3, "n": 1}}
  assert {method: row["id"] for method, row in found.examples.items()} == {"m": "z", "n": "y"}
  assert found.gold["m"] == {True: 1, False: 1, None: 1}
  assert (found.unit, found.lengths) == ("words", {"stage1": {1: 4}})


def test_census_prefers_kept_instances_and_their_tokens(tmp_path):
  workdir = workdir_with(tmp_path, [], [instance("a", "p"), instance("b", "p")])
  records.write_lines(workdir / "sft/stage1/kept.jsonl", [instance("a", "p", tokens=17)])
  found = samples.census(workdir)
  assert found.methods == {"stage1": {"m": 1}}
  assert (found.unit, found.lengths) == ("tokens", {"stage1": {17: 1}})


def answers(**right):
  return {
    name: {str(i): {"id": str(i), "correct": bool(r)} for i, r in enumerate(rows)} for name, rows in right.items()
  }


def test_side_by_side_sorts_problems_by_who_was_right():
  #                                     never  fixed 1  fixed 2  lost  always  fixed 1, lost again
  found = samples.side_by_side(answers(base=[0, 0, 0, 1, 1, 0], stage1=[0, 1, 0, 1, 1, 1], stage2=[0, 1, 1, 0, 1, 0]))
  chosen = {group.title: (group.count, [example["base"]["id"] for example in group.examples]) for group in found}
  assert chosen == {
    "Wrong before training, right after stage 1": (2, ["1", "5"]),
    "Wrong after stage 1, right after stage 2": (1, ["2"]),
    "Wrong throughout": (1, ["0"]),
    "Lost: right before training, wrong after stage 2": (1, ["3"]),
  }
  assert {group.total for group in found} == {6}


def test_paired_comparison_counts_gains_and_losses_on_shared_problems():
  runs = answers(base=[0, 0, 0, 1, 1], stage1=[1, 1, 1, 0, 1, 1])
  # 3 gained, 1 lost: 2 * (C(4,0) + C(4,1)) / 2^4
  assert samples.paired(runs["base"], runs["stage1"]) == {"gained": 3, "lost": 1, "n": 5, "p": pytest.approx(0.625)}


def test_outcomes_count_each_row_once():
  rows = [
    {"correct": True, "finish_reason": "length", "extracted": "1"},
    {"correct": False, "finish_reason": "length", "extracted": None},
    {"correct": False, "finish_reason": "stop", "extracted": None},
    {"correct": False, "finish_reason": "stop", "extracted": "2"},
  ]
  assert samples.outcomes(rows) == {"right": 1, "wrong": 1, "no_answer": 1, "cut_off": 1}


def test_estimates_take_the_interval_given_and_else_wilsons():
  assert read.estimate({"all": 0.5, "n": 4, "ci95": [0.1, 0.9]}) == Estimate(value=0.5, low=0.1, high=0.9, n=4)
  found = read.estimate(0.5, 100)
  assert (found.low, found.high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
  assert read.estimate(0.5) == Estimate(value=0.5)
  assert read.estimate(float("nan")) is None
  assert read.estimate(None) is None


def test_groups_are_in_natural_order_with_sizes():
  facts = {"by_level": {"10": 0.1, "2": 0.2, "none": 0.3}, "n_by_level": {"2": 50}}
  found = read.grouped(facts, {}, "level")
  assert list(found) == ["2", "10", "none"]
  assert [e.n for e in found.values()] == [50, None, None]


def test_load_notes_every_missing_file(tmp_path):
  files.write_json(tmp_path / "summary.json", {"name": "x"})
  material = read.load(tmp_path)
  assert material.summary == {"name": "x"}
  assert any("config.json" in note for note in material.notes)
  assert not any(note.startswith(str(tmp_path / "summary.json")) for note in material.notes)
