"""Drawing, sampling and reading, each on its own."""

import re
import statistics
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skymath_jax import files, records
from skymath_jax.report import html, plots, read, samples
from skymath_jax.report.plots import NARROW, WIDE, Mark
from skymath_jax.report.read import Estimate


def texts(svg):
  """(x, anchor, content) of each label."""
  found = re.findall(r'<text x="([-\d.]+)" y="[-\d.]+" text-anchor="(\w+)" class="\w+">([^<]*)</text>', svg)
  return [(float(x), anchor, content) for x, anchor, content in found]


def marks(values):
  shares = [Estimate(value=v, low=max(0, v - 0.1), high=min(1, v + 0.1), n=100) for v in values]
  return [Mark(name, read.MODELS[name], share) for name, share in zip(read.MODELS, shares, strict=False)]


METHODS = [
  ("metamath.answer_augmentation", [("stage1", "stage 1", 1234567), ("stage2", "stage 2", 45678)]),
  ("xwin", [("stage1", "stage 1", 1)]),
]
STEPS = [
  ("seed problems", 400, "base"),
  ("synthetic problems selected for pass 2", 1234567, "selected"),
  ("after near duplicates", 1, "stage1"),
]
DRAWINGS = {
  "dots": lambda w: plots.dots("t", marks([0.0, 0.5, 1.0]), w),
  "grouped": lambda w: plots.grouped_dots("t", [(f"level {i}", marks([0.0, 0.5, 1.0])) for i in range(1, 6)], w),
  "bars": lambda w: plots.bars("t", METHODS, w),
  "funnel": lambda w: plots.funnel("t", STEPS, w),
  "histogram": lambda w: plots.histogram("t", [("stage1", "Stage 1", {1: 5, 2000: 1})], "tokens", w),
  "curve": lambda w: plots.curve("t", "stage1", [(i, 1 / i) for i in range(1, 12000)], (0, 1), w),
}


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("name", DRAWINGS)
def test_labels_stay_inside_the_drawing(name, width):
  found = texts(DRAWINGS[name](width))
  assert found
  for x, anchor, content in found:
    size = 6.5 * len(content)  # pixels: a little under the mean width of a 12 px character
    start = {"start": x, "middle": x - size / 2, "end": x - size}[anchor]
    assert start >= -2, (content, start)
    assert start + size <= width + 2, (content, start + size)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_marks_stand_where_their_values_are(width):
  svg = plots.dots("t", marks([0.25, 0.5]), width)
  circle = float(re.search(r'<circle cx="([\d.]+)"', svg).group(1))
  square = re.search(r'<rect x="([\d.]+)" y="[\d.]+" width="(\d+)"', svg)
  axis = {content: x for x, _, content in texts(svg) if content.endswith("0\u00a0%") and "." not in content}
  zero, forty = axis["0\u00a0%"], axis["40\u00a0%"]
  assert circle == pytest.approx(zero + 0.25 / 0.4 * (forty - zero), abs=0.2)
  assert float(square.group(1)) + float(square.group(2)) / 2 == pytest.approx(
    zero + 0.5 / 0.4 * (forty - zero), abs=0.2
  )


def test_bars_are_as_long_as_their_counts():
  svg = plots.bars("t", [("a", [("stage1", "one", 30), ("stage2", "two", 10)]), ("b", [("stage1", "one", 20)])], NARROW)
  widths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)" height="14"', svg)]
  assert widths[0] == pytest.approx(3 * widths[1], abs=0.3)
  assert widths[2] == pytest.approx(2 * widths[1], abs=0.3)
  assert 0.85 * NARROW < widths[0] + widths[1] < NARROW


def test_histogram_adds_up_neighbouring_lengths():
  svg = plots.histogram("t", [("stage1", "Stage 1", {0: 2, 1: 1, 360: 1})], "tokens", WIDE)
  tips = re.findall(r"<title>(\d+)–(\d+) tokens: (\d+)</title>", svg)
  heights = [float(h) for h in re.findall(r'height="([\d.]+)" class="bar', svg)]
  assert tips == [("0", "9", "3"), ("360", "369", "1")]
  assert heights[0] == pytest.approx(3 * heights[1], abs=0.3)
  assert "4 instances, median 0 tokens" in svg


def test_labels_are_escaped():
  hostile = '</title><script>x</script>"'
  svg = plots.bars(hostile, [(hostile, [(hostile, hostile, 1)])], WIDE)
  assert "<script" not in svg
  assert svg.count("&lt;script&gt;") >= 4
  assert '"bar </title' not in svg


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_cover_the_range_with_equal_steps(low, span, count):
  found = plots.ticks(low, low + span, count)
  slack = 1e-6 * (abs(low) + span)
  assert found[0] <= low + slack
  assert found[-1] >= low + span - slack
  assert 2 <= len(found) <= 2 * count + 3


@given(st.lists(st.integers(0, 50), min_size=1))
def test_median_is_the_lower_median(values):
  assert plots.median(Counter(values)) == statistics.median_low(values)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60), st.integers(1, 20))
def test_smoothing_keeps_straight_lines_and_bounds(values, span):
  average = plots.smoothed(values, span)
  assert len(average) == len(values)
  assert min(values) - 1e-9 <= min(average) <= max(average) <= max(values) + 1e-9
  line = [0.5 * i - 3 for i in range(len(values))]
  assert plots.smoothed(line, span) == pytest.approx(line)


def test_clean_keeps_text_and_spaces_and_replaces_the_rest():
  kept = "a\u00a0b\u2009c\u3000d\te\nf é 数 🙂 ½"
  assert html.clean(kept) == kept
  assert html.clean("a\r\nb\rc\0d\u202ee\ud800f\u2028g") == "a\nb\ufffdc\ufffdd\ufffde\ufffdf\ufffdg"
  assert html.clean("x" * 12, 10) == "x" * 10 + " … (2 more characters)"
  assert html.clean("x" * 11, 10) == "x" * 11
  assert html.clean(None) == ""
  assert html.clean(0) == "0"


def test_thinning_keeps_spikes():
  points = [(i, 9.0 if i == 777 else 1.0) for i in range(5000)]
  kept = plots.thinned(points, 100)
  assert (777, 9.0) in kept
  assert len(kept) <= 110
  assert kept == sorted(kept)


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
