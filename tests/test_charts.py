"""Charts: labels stay inside, lengths are to scale, text is escaped, a file of its own is whole."""

import re
import statistics
import xml.etree.ElementTree
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skymath_jax import charts
from skymath_jax.charts import NARROW, WIDE, Mark
from skymath_jax.statistics import Estimate

SERIES = ("base", "stage1", "stage2")


def texts(svg):
  """(x, anchor, content) of each label."""
  found = re.findall(r'<text x="([-\d.]+)" y="[-\d.]+" text-anchor="(\w+)" class="\w+">([^<]*)</text>', svg)
  return [(float(x), anchor, content) for x, anchor, content in found]


def marks(values):
  shares = [Estimate(value=v, low=max(0, v - 0.1), high=min(1, v + 0.1), n=100) for v in values]
  return [Mark(name, name, share) for name, share in zip(SERIES, shares, strict=False)]


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
  "dots": lambda w: charts.dots("t", marks([0.0, 0.5, 1.0]), w),
  "grouped": lambda w: charts.grouped_dots("t", [(f"level {i}", marks([0.0, 0.5, 1.0])) for i in range(1, 6)], w),
  "bars": lambda w: charts.bars("t", METHODS, w),
  "funnel": lambda w: charts.funnel("t", STEPS, w),
  "histogram": lambda w: charts.histogram("t", [("stage1", "Stage 1", {1: 5, 2000: 1})], "tokens", w),
  "curve": lambda w: charts.curve("t", "stage1", [(i, 1 / i) for i in range(1, 12000)], (0, 1), w),
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
  svg = charts.dots("t", marks([0.25, 0.5]), width)
  circle = float(re.search(r'<circle cx="([\d.]+)"', svg).group(1))
  square = re.search(r'<rect x="([\d.]+)" y="[\d.]+" width="(\d+)"', svg)
  axis = {content: x for x, _, content in texts(svg) if content.endswith("0\u00a0%") and "." not in content}
  zero, forty = axis["0\u00a0%"], axis["40\u00a0%"]
  assert circle == pytest.approx(zero + 0.25 / 0.4 * (forty - zero), abs=0.2)
  assert float(square.group(1)) + float(square.group(2)) / 2 == pytest.approx(
    zero + 0.5 / 0.4 * (forty - zero), abs=0.2
  )


def test_bars_are_as_long_as_their_counts():
  svg = charts.bars(
    "t", [("a", [("stage1", "one", 30), ("stage2", "two", 10)]), ("b", [("stage1", "one", 20)])], NARROW
  )
  widths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)" height="14"', svg)]
  assert widths[0] == pytest.approx(3 * widths[1], abs=0.3)
  assert widths[2] == pytest.approx(2 * widths[1], abs=0.3)
  assert 0.85 * NARROW < widths[0] + widths[1] < NARROW


def test_histogram_adds_up_neighbouring_lengths():
  svg = charts.histogram("t", [("stage1", "Stage 1", {0: 2, 1: 1, 360: 1})], "tokens", WIDE)
  tips = re.findall(r"<title>(\d+)–(\d+) tokens: (\d+)</title>", svg)
  heights = [float(h) for h in re.findall(r'height="([\d.]+)" class="bar', svg)]
  assert tips == [("0", "9", "3"), ("360", "369", "1")]
  assert heights[0] == pytest.approx(3 * heights[1], abs=0.3)
  assert "4 instances, median 0 tokens" in svg


def test_labels_are_escaped():
  hostile = '</title><script>x</script>"'
  svg = charts.bars(hostile, [(hostile, [(hostile, hostile, 1)])], WIDE)
  assert "<script" not in svg
  assert svg.count("&lt;script&gt;") >= 4
  assert '"bar </title' not in svg


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_cover_the_range_with_equal_steps(low, span, count):
  found = charts.ticks(low, low + span, count)
  slack = 1e-6 * (abs(low) + span)
  assert found[0] <= low + slack
  assert found[-1] >= low + span - slack
  assert 2 <= len(found) <= 2 * count + 3


@given(st.lists(st.integers(0, 50), min_size=1))
def test_median_is_the_lower_median(values):
  assert charts.median(Counter(values)) == statistics.median_low(values)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60), st.integers(1, 20))
def test_smoothing_keeps_straight_lines_and_bounds(values, span):
  average = charts.smoothed(values, span)
  assert len(average) == len(values)
  assert min(values) - 1e-9 <= min(average) <= max(average) <= max(values) + 1e-9
  line = [0.5 * i - 3 for i in range(len(values))]
  assert charts.smoothed(line, span) == pytest.approx(line)


def test_thinning_keeps_spikes():
  points = [(i, 9.0 if i == 777 else 1.0) for i in range(5000)]
  kept = charts.thinned(points, 100)
  assert (777, 9.0) in kept
  assert len(kept) <= 110
  assert kept == sorted(kept)


def test_a_file_of_its_own_is_well_formed_and_holds_heading_keys_style_and_chart():
  svg = charts.standalone("<b> & more", charts.bars("t", METHODS, WIDE), ("stage1", "stage 1"))
  root = xml.etree.ElementTree.fromstring(svg)
  inner = root.find("{http://www.w3.org/2000/svg}svg")
  assert float(root.get("viewBox").split()[3]) == float(inner.get("y")) + float(inner.get("height"))
  assert [text.text for text in root.findall("{http://www.w3.org/2000/svg}text")] == ["<b> & more", "stage 1"]
  assert charts.STYLE in svg and "<script" not in svg
