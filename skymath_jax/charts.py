"""Small charts as SVG: crisp at every size, coloured by one style sheet, named for screen readers.

Each chart takes its width in CSS pixels. A page holds STYLE and charts inline, each drawn twice by `responsive`, wide
and narrow, so that its text is as large on a phone as on a desk; `standalone` makes a file of a chart. All text is
escaped; there is no script.
"""

import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from skymath_jax.statistics import Estimate

WIDE, NARROW = 720, 350  # CSS pixels: a text column, and a phone's screen less its margins
CHARACTER = 7.7  # pixels of one character of a 12 px label in a wide font
HEADING = 34  # pixels above a chart in a file of its own
# The palette is that of whole pages; :root is the page, or the picture where it is a file of its own.
STYLE = """\
:root {
  color-scheme: light;
  --page: #fff; --ink: #1b1f24; --soft: #59616b; --rule: #d8dde3; --panel: #f5f7f9; --link: #0b5cad;
  --base: #6b7280; --stage1: #0072b2; --stage2: #c94f00; --neutral: #8a94a0; --right: #1a7f37; --wrong: #b42318;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark;
    --page: #14171b; --ink: #e4e8ec; --soft: #9ba5b0; --rule: #333a42; --panel: #1d2127; --link: #79b8ff;
    --base: #a3acb7; --stage1: #56b4e9; --stage2: #f39a5f; --neutral: #7b8692; --right: #57c275; --wrong: #ff8a80;
  }
}
svg .label { fill: var(--ink); font-size: 12.5px; }
svg .value { fill: var(--ink); font-size: 12.5px; font-weight: 600; }
svg .small { fill: var(--ink); font-size: 11px; } svg .tick { fill: var(--soft); font-size: 11px; }
svg text { font-variant-numeric: tabular-nums; } svg .heading { fill: var(--ink); font-size: 14px; font-weight: 600; }
svg .grid { stroke: var(--rule); stroke-width: 1; } svg .axis { stroke: var(--soft); }
svg .median { stroke: var(--ink); stroke-dasharray: 3 3; }
svg .base { --tone: var(--base); } svg .stage1 { --tone: var(--stage1); } svg .stage2 { --tone: var(--stage2); }
svg .bar, svg .dot, svg .key { fill: var(--tone, var(--neutral)); } svg .dot { stroke: var(--page); stroke-width: 1.5; }
svg .whisker { stroke: var(--tone); stroke-width: 2.5; opacity: .55; }
svg .range { stroke: var(--ink); stroke-width: 1.5; } svg .track { fill: var(--rule); opacity: .6; }
svg .wedge { fill: var(--tone, var(--neutral)); opacity: .16; } svg .paper { fill: var(--page); }
svg .raw, svg .smooth { fill: none; stroke: var(--tone); stroke-linejoin: round; }
svg .raw { opacity: .3; } svg .smooth { stroke-width: 2; }
"""
_HEIGHT = re.compile(r'viewBox="0 0 \S+ (\S+)"')


class Mark(NamedTuple):
  """One measured value of a chart: the series' style class (`base`, `stage1`, `stage2`), its name, its value."""

  series: str
  label: str
  estimate: Estimate


def responsive(draw: Callable[[int], Markup]) -> Markup:
  """The chart at two widths, of which the style sheet shows one."""
  return element("div", draw(WIDE), class_="wide") + element("div", draw(NARROW), class_="narrow")


def standalone(heading: str, chart: Markup, *keys: tuple[str, str]) -> str:
  """A wide chart as a file of its own, on paper, below its heading.

  Args:
    heading: drawn above the chart.
    chart: drawn `WIDE`.
    keys: (series, name) of the series, drawn below the heading.
  """
  top = HEADING + (20 if keys else 0)
  found = _HEIGHT.search(chart)
  height = float(found[1]) if found else 0.0
  legend = [
    element("text", name, x=150 * place, y=40, font_size="12.5", class_=f"key {series}")
    for place, (series, name) in enumerate(keys)
  ]
  whole = element(
    "svg",
    element("style", Markup(STYLE)),
    element("rect", width="100%", height="100%", class_="paper"),
    _text(0, 18, heading, class_="heading"),
    *legend,
    Markup(str(chart).replace("<svg ", f'<svg y="{top}" height="{_short(height)}" ', 1)),
    xmlns="http://www.w3.org/2000/svg",
    viewBox=f"0 0 {WIDE} {_short(height + top)}",
    width=WIDE,
    font_family="system-ui, sans-serif",
  )
  return f"{whole}\n"


def element(name: str, *content: str | Markup, **attributes: object) -> Markup:
  """One element, escaped; `class_` and `text_anchor` become `class` and `text-anchor`."""
  pairs = (
    Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _short(value)) for key, value in attributes.items()
  )
  return Markup("<{0}{1}>{2}</{0}>").format(name, Markup("").join(pairs), Markup("").join(content))


def percent(share: float, digits: int = 1) -> str:
  """`0.123` → `12.3 %`, with a no-break space."""
  return f"{100 * share:.{digits}f}\u00a0%"


def interval(estimate: Estimate) -> str:
  """`9.8–15.2 %`, or nothing where the interval is not known."""
  if estimate.low is None or estimate.high is None:
    return ""
  return f"{100 * estimate.low:.1f}\u2013{percent(estimate.high)}"


def _short(value: object) -> object:
  return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def _svg(width: float, height: float, title: str, *content: Markup) -> Markup:
  name = element("title", title)
  return element("svg", name, *content, viewBox=f"0 0 {_short(width)} {_short(height)}", role="img", width=width)


def _text(x: float, y: float, content: str, anchor: str = "start", class_: str = "label") -> Markup:
  return element("text", content, x=float(x), y=float(y), text_anchor=anchor, class_=class_)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
  return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def _bar(x: float, y: float, width: float, height: float, class_: str, tip: str = "") -> Markup:
  title = [element("title", tip)] if tip else []
  return element("rect", *title, x=float(x), y=float(y), width=max(0.0, width), height=float(height), class_=class_)


def _marker(x: float, y: float, series: str, tip: str) -> Markup:
  """Series differ in shape as well as in colour: circle, square, diamond."""
  side = {"base": 0, "stage1": 9, "stage2": 10}.get(series, 0)
  title, style = element("title", tip), f"dot {series}"
  if not side:
    return element("circle", title, cx=float(x), cy=float(y), r=5, class_=style)
  turn = {"transform": f"rotate(45 {_short(float(x))} {_short(float(y))})"} if series == "stage2" else {}
  return element("rect", title, x=x - side / 2, y=y - side / 2, width=side, height=side, class_=style, **turn)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
  """About `count` round numbers (1, 2 or 5 times a power of ten apart) that cover [low, high]."""
  span = (high - low) or abs(high) or 1.0
  power = 10.0 ** math.floor(math.log10(span / count))
  step = next((m * power for m in (1, 2, 5) if span / (m * power) <= count), 10 * power)
  first = math.floor(low / step + 1e-9)
  return [round(i * step, 12) for i in range(first, math.ceil(high / step - 1e-9) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
  span = (high - low) or 1.0
  return lambda value: start + (value - low) / span * (end - start)


def _tip(mark: Mark) -> str:
  size = f", n = {mark.estimate.n:,}" if mark.estimate.n else ""
  bounds = f" (95 % interval {interval(mark.estimate)}{size})" if interval(mark.estimate) else ""
  return f"{mark.label}: {percent(mark.estimate.value)}{bounds}"


def _top(marks: Sequence[Mark]) -> float:
  """The axis' end for shares: the next full tenth above every interval, at most 1."""
  highest = max((m.estimate.high or m.estimate.value for m in marks), default=1.0)
  return min(1.0, math.ceil(highest * 10 + 0.2) / 10)


def dots(title: str, marks: Sequence[Mark], width: int) -> Markup:
  """One row a mark: its value as a dot, its interval as a line, on an axis from zero."""
  margin = 8 + CHARACTER * max((len(mark.label) for mark in marks), default=0)
  row, height = 44, 44 * len(marks) + 26
  x = _scale(0, top := _top(marks), margin, width - 24)
  content = []
  for tick in ticks(0, top, 5 if width == WIDE else 4):
    if tick <= top:
      content += [_line(x(tick), 4, x(tick), height - 22, "grid")]
      content += [_text(x(tick), height - 6, percent(tick, 0), "middle", "tick")]
  for index, mark in enumerate(marks):
    y, found = row * index + 28, mark.estimate
    content.append(_text(0, y + 4, mark.label))
    if found.low is not None and found.high is not None:
      content.append(_line(x(found.low), y, x(found.high), y, f"whisker {mark.series}"))
    content.append(_marker(x(found.value), y, mark.series, _tip(mark)))
    at = min(max(x(found.value), margin + 24), width - 48)
    content.append(_text(at, y - 11, percent(found.value), "middle", "value"))
  return _svg(width, height, title, *content)


def grouped_dots(title: str, groups: Sequence[tuple[str, Sequence[Mark]]], width: int) -> Markup:
  """One column a group, in it one dot with interval and value (in percent) for each mark."""
  height, left, floor = 260, 40, 226
  y = _scale(0, top := _top([mark for _, marks in groups for mark in marks]), floor, 26)
  content = []
  for tick in ticks(0, top):
    if tick <= top:
      content += [_line(left, y(tick), width, y(tick), "grid")]
      content += [_text(left - 6, y(tick) + 4, percent(tick, 0), "end", "tick")]
  column = (width - left) / max(1, len(groups))
  for index, (name, marks) in enumerate(groups):
    middle = left + column * (index + 0.5)
    content.append(_text(middle, floor + 22, name, "middle"))
    for place, mark in enumerate(marks):
      x = middle + min(column / (len(marks) + 0.3), 44) * (place - (len(marks) - 1) / 2)
      found = mark.estimate
      high = found.high if found.high is not None else found.value
      if found.low is not None:
        content.append(_line(x, y(found.low), x, y(high), f"whisker {mark.series}"))
      content.append(_marker(x, y(found.value), mark.series, f"{name}, {_tip(mark)}"))
      content.append(_text(x, min(y(high) - 5, y(found.value) - 9), f"{100 * found.value:.0f}", "middle", "small"))
  return _svg(width, height, title, *content)


def bars(
  title: str, rows: Sequence[tuple[str, Sequence[tuple[str, str, float]]]], width: int, digits: int = 0
) -> Markup:
  """Horizontal bars of amounts; a row is (label, parts), a part (series, name, amount), stacked from zero."""
  totals = [sum(count for *_, count in parts) for _, parts in rows]
  beside = width == WIDE  # on a phone the label stands above its bar
  left = 12 + CHARACTER * max((len(label) for label, _ in rows), default=0) if beside else 0
  row, thick = (26, 16) if beside else (40, 14)
  room = CHARACTER * max((len(f"{total:,.{digits}f}") for total in totals), default=1) + 10
  x = _scale(0, max(totals, default=1) or 1, 0, width - left - room)
  content = []
  for index, ((label, parts), total) in enumerate(zip(rows, totals, strict=True)):
    top = row * index + (0 if beside else 18)
    content.append(_text(0, top + 13 if beside else top - 5, label))
    at = left
    for series, name, count in parts:
      content.append(_bar(at, top, x(count), thick, f"bar {series}", f"{label}, {name}: {count:,.{digits}f}"))
      at += x(count)
    content.append(_text(at + 6, top + thick - 3, f"{total:,.{digits}f}", class_="value"))
  return _svg(width, row * len(rows) + 4, title, *content)


def funnel(title: str, steps: Sequence[tuple[str, float, str]], width: int) -> Markup:
  """Stepped bars from the first count to the last; a step is (label, count, series).

  A wedge and the difference join two steps of one series: they count the same kind of thing.
  """
  largest = max((count for _, count, _ in steps), default=1) or 1
  x, row, thick = _scale(0, largest, 0, width), 48, 14
  content = []
  for index, (label, count, series) in enumerate(steps):
    y, before = row * index + 20, steps[index - 1][1] if index else count
    if index and series == steps[index - 1][2]:
      corners = f"0,{y - row + thick} {x(before):.1f},{y - row + thick} {x(count):.1f},{y} 0,{y}"
      content.append(element("polygon", points=corners, class_=f"wedge {series}"))
      change = f" (\u2212{before - count:,.0f})" if count < before else ""
    else:
      change = ""
    content.append(_bar(0, y, max(2.0, x(count)), thick, f"bar {series}", f"{label}: {count:,.0f}"))
    content.append(_text(0, y - 6, label))
    content.append(_text(width, y - 6, f"{count:,.0f}{change}", "end", "value"))
  return _svg(width, row * len(steps) - 10, title, *content)


def histogram(title: str, panels: Sequence[tuple[str, str, dict[int, int]]], unit: str, width: int) -> Markup:
  """One panel above the other on one axis; a panel is (series, name, {length: count}); a line marks the median."""
  last = max((max(found) for *_, found in panels if found), default=1)
  step = max(1, math.ceil(last / (36 if width == WIDE else 24)))
  size, x = 96, _scale(0, (last // step + 1) * step, 0, width - 8)
  content = []
  for index, (series, name, found) in enumerate(panels):
    bins: dict[int, int] = {}
    for length, count in found.items():
      bins[length // step] = bins.get(length // step, 0) + count
    floor, peak = size * (index + 1) - 8, max(bins.values(), default=1)
    y = _scale(0, peak, 0, size - 36)
    for place, count in sorted(bins.items()):
      tip = f"{place * step}\u2013{(place + 1) * step - 1} {unit}: {count:,}"
      wide = x(step) - 1
      content.append(_bar(x(place * step), floor - y(count), wide, y(count), f"bar {series}", tip))
    middle = median(found)
    content.append(_line(0, floor, width, floor, "axis"))
    content.append(_line(x(middle), floor, x(middle), floor - size + 32, "median"))
    label = f"{name}: {sum(found.values()):,} instances, median {middle} {unit}"
    content.append(_text(0, floor - size + 24, f"{label}, highest bar {peak:,}" if width == WIDE else label))
  bottom = size * len(panels) + 8
  for tick in [t for t in ticks(0, last)[1:] if t <= last]:
    name = f"{tick:,.0f}"
    content.append(_text(min(x(tick), width - CHARACTER / 2 * len(name)), bottom, name, "middle", "tick"))
  return _svg(width, bottom + 6, title, *content)


def median(found: dict[int, int]) -> int:
  """The lower median of a histogram {value: count}; 0 of an empty one."""
  seen, half = 0, (sum(found.values()) + 1) // 2
  for value in sorted(found):
    seen += found[value]
    if seen >= half:
      return value
  return 0


def smoothed(values: Sequence[float], span: int) -> list[float]:
  """Centred moving average over up to `span` values, fewer at both ends; unlike a decaying one it does not lag."""
  sums, half = [0.0, *itertools.accumulate(values)], max(1, span) // 2
  result = []
  for index in range(len(values)):
    reach = min(half, index, len(values) - 1 - index)
    result.append((sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1))
  return result


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
  """At most about `most` points of a curve: of each run of neighbours its lowest and its highest."""
  if len(points) <= most:
    return list(points)
  size = math.ceil(2 * len(points) / most)
  kept = []
  for start in range(0, len(points), size):
    chunk = points[start : start + size]
    ends = {min(chunk, key=lambda p: p[1]), max(chunk, key=lambda p: p[1])}
    kept += sorted(ends)
  return kept


def curve(
  title: str, series: str, points: Sequence[tuple[float, float]], span: tuple[float, float], width: int
) -> Markup:
  """Loss over steps: each step faint, the moving average strong; `span` are the loss axis' ends."""
  height, left, floor = 230, 44, 196
  marks = ticks(*span)
  x = _scale(points[0][0], points[-1][0], left, width - 14)
  y = _scale(marks[0], marks[-1], floor, 10)
  content = []
  for tick in marks:
    content += [_line(left, y(tick), width, y(tick), "grid"), _text(left - 6, y(tick) + 4, f"{tick:g}", "end", "tick")]
  for tick in ticks(points[0][0], points[-1][0], 4):
    if points[0][0] <= tick <= points[-1][0]:
      content.append(_text(x(tick), floor + 18, f"{tick:,.0f}", "middle", "tick"))
  content.append(_text((left + width) / 2, floor + 32, "step", "middle", "tick"))
  average = smoothed([loss for _, loss in points], max(5, len(points) // 25))
  lines = {
    "raw": thinned(points, 600),
    "smooth": thinned([(p[0], a) for p, a in zip(points, average, strict=True)], 300),
  }
  for style, line in lines.items():
    path = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in line)
    content.append(element("polyline", points=path, class_=f"{style} {series}"))
  return _svg(width, height, title, *content)


def meter(found: Estimate) -> Markup:
  """A small bar for a table cell: the share, and its interval as a line."""
  width, height = 96, 12
  x = _scale(0, 1, 0, width)
  content = [_bar(0, 1, width, height - 2, "track"), _bar(0, 1, x(found.value), height - 2, "bar stage1")]
  if found.low is not None and found.high is not None:
    content.append(_line(x(found.low), height / 2, x(found.high), height / 2, "range"))
  return _svg(width, height, percent(found.value), *content)
