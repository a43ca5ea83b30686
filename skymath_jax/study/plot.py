"""The study's figures, each in two widths (a page's column and half of it) as PNG and SVG.

Series differ in marker and line style as well as in colour (Okabe and Ito's palette), letters are outlines, so a figure
looks the same everywhere, and nothing in a file depends on the clock: equal results, equal files.
"""

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import matplotlib
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from skymath_jax import files
from skymath_jax.records import Facts

WIDTHS = {"wide": 7.2, "narrow": 3.6}  # inches: a double and a single column
DOTS_PER_INCH = 220
INK, SOFT, RULE = "#1b1f24", "#59616b", "#d8dde3"
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072b2", "#d55e00", "#009e73", "#aa4499", "#56b4e9"
FIT_STYLES = {"log_linear": (ORANGE, "--"), "power_law": (PURPLE, "-."), "power_law_floor": (GREEN, "-")}
LEVEL_STYLES = ((BLUE, "o"), (SKY, "s"), (GREEN, "D"), (ORANGE, "^"), (PURPLE, "v"))
STYLE: Any = {  # matplotlib types the keys of a style one by one
  "font.family": "DejaVu Sans",
  "font.size": 8.5,
  "axes.edgecolor": SOFT,
  "axes.labelcolor": INK,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "axes.axisbelow": True,
  "grid.color": RULE,
  "grid.linewidth": 0.6,
  "xtick.color": SOFT,
  "ytick.color": SOFT,
  "xtick.labelcolor": INK,
  "ytick.labelcolor": INK,
  "legend.facecolor": "white",
  "legend.framealpha": 0.85,
  "legend.edgecolor": "none",
  "legend.fontsize": 8,
  "lines.linewidth": 1.6,
  "svg.fonttype": "path",
  "svg.hashsalt": "skymath",
  "figure.facecolor": "white",
}


def write(summary: Facts, folder: epath.PathLike, *, names: Iterable[str] | None = None) -> list[str]:
  """Writes every figure (or those of `names`) that the summary has material for; returns what was drawn."""
  drawn = []
  for name in FIGURES if names is None else names:
    draw, key = FIGURES[name]
    if not summary[key]:
      continue
    for width in WIDTHS:
      with matplotlib.rc_context(STYLE):
        _save(draw(summary, width), epath.Path(folder), name if width == "wide" else f"{name}_{width}")
    drawn.append(name)
  return drawn


def _save(figure: Figure, folder: epath.Path, name: str) -> None:
  FigureCanvasAgg(figure)
  for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
    files.write_bytes(folder / f"{name}.{kind}", buffer.getvalue())


@contextlib.contextmanager
def _axes(width: str, height: float) -> Iterator[tuple[Figure, Any]]:
  figure = Figure(figsize=(WIDTHS[width], height), layout="constrained")
  yield figure, figure.add_subplot()


def _size_axis(axes: Any, sizes: list[int], last: float) -> None:
  axes.set_xscale("log")
  axes.set_xlim(sizes[0] / 1.25, last)
  axes.set_xticks(sizes)
  axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
  axes.xaxis.set_minor_locator(NullLocator())
  axes.set_xlabel("training instances (log scale)")
  axes.set_ylabel("accuracy, %")


def short(size: float) -> str:
  """`2,500` as 2.5K, `2,100,000` as 2.1M."""
  for unit, name in ((1e6, "M"), (1e3, "K")):
    if size >= unit:
      return f"{size / unit:.3g}{name}"
  return f"{size:.0f}"


def scaling(summary: Facts, width: str) -> Figure:
  """Accuracy against size: seeds, mean with interval, both fits with their bands, the held-out size hollow."""
  points = summary["curve"]
  sizes = [point["size"] for point in points]
  with _axes(width, 3.9 if width == "wide" else 3.4) as (figure, axes):
    _size_axis(axes, sizes, sizes[-1] * 2.1)
    for name, found in summary["fits"].items():
      color, line = FIT_STYLES[name]
      x, y, low, high = zip(*found["line"], strict=True)
      axes.fill_between(x, [100 * v for v in low], [100 * v for v in high], color=color, alpha=0.13, linewidth=0)
      axes.plot(x, [100 * v for v in y], line, color=color, label=found["title"])
    if summary["base"]:
      axes.axhline(100 * summary["base"]["accuracy"], color=SOFT, linestyle=":", linewidth=1.2, label="base model")
    for index, point in enumerate(points):
      last = index == len(points) - 1 and bool(summary["fits"])
      middle, (low, high) = 100 * point["accuracy"], (100 * end for end in point["ci95"])
      axes.plot([point["size"]] * 2, [low, high], color=INK, linewidth=1.1, zorder=3)
      label = {0: "mean of the seeds, 95 % interval", len(points) - 1: "held out of the fits" if last else None}
      axes.plot(
        point["size"], middle, "o", color=INK, markerfacecolor="white" if last else INK, markersize=6.5, zorder=4,
        linestyle="none", label=label.get(index),
      )  # fmt: skip
      axes.plot(
        [point["size"]] * len(point["by_seed"]), [100 * v for v in point["by_seed"]], ".", color=BLUE, markersize=3.5,
        zorder=5, linestyle="none", label="one seed" if not index else None,
      )  # fmt: skip
    top = max(point["ci95"][1] for point in points)
    axes.set_ylim(-2, min(102, 100 * top * 1.25 + 4))
    axes.legend(loc="upper left", fontsize=8 if width == "wide" else 6.3, handlelength=3.4)  # shows dash and dot
    return figure


def levels(summary: Facts, width: str) -> Figure:
  """Accuracy against size, one line a level, named at its end."""
  points = summary["curve"]
  sizes = [point["size"] for point in points]
  with _axes(width, 3.6 if width == "wide" else 3.3) as (figure, axes):
    _size_axis(axes, sizes, sizes[-1] * (1.6 if width == "wide" else 2.4))
    ends = {}
    for index, name in enumerate(points[-1]["by_level"]):
      color, marker = LEVEL_STYLES[index % len(LEVEL_STYLES)]
      values = [100 * point["by_level"][name] for point in points]
      axes.plot(sizes, values, marker=marker, color=color, markersize=5)
      ends[name] = (values[-1], color)
    top = max(max(point["by_level"].values(), default=0) for point in points)
    axes.set_ylim(-2, min(102, 125 * top + 4))
    low, high = axes.get_ylim()
    for name, (at, color) in _apart(ends, 0.044 * (high - low)).items():
      axes.annotate(
        f"level {name}", (sizes[-1], at), xytext=(7, 0), textcoords="offset points", va="center", color=color,
        fontsize=8, fontweight="bold",
      )  # fmt: skip
    return figure


def _apart(ends: dict[str, tuple[float, str]], least: float) -> dict[str, tuple[float, str]]:
  """The same labels moved up just so far that none covers the one below it."""
  placed, floor = {}, -1e9
  for name, (at, color) in sorted(reversed(ends.items()), key=lambda item: item[1][0]):
    floor = max(at, floor + least)
    placed[name] = (floor, color)
  return placed


def ablations(summary: Facts, width: str) -> Figure:
  """Every comparison as difference with interval: all problems as a dot, the hard levels as a diamond below it."""
  rows = [
    (f"{found['subject']} − {other}", compared, index)
    for index, found in enumerate(summary["ablations"].values())
    for other, compared in found["comparisons"].items()
  ]
  wide = width == "wide"
  with _axes(width, 0.8 + (0.42 if wide else 0.62) * len(rows)) as (figure, axes):
    axes.axvline(0, color=INK, linewidth=1)
    for place, (label, compared, group) in enumerate(rows):
      if group % 2:
        axes.axhspan(place - 0.5, place + 0.5, color="#f2f4f7", linewidth=0, zorder=0)
      parts = [(compared, 0 if "hard_levels" not in compared else -0.14, BLUE, "o", "all levels")]
      if "hard_levels" in compared:
        parts.append((compared["hard_levels"], 0.16, ORANGE, "D", "hard levels"))
      for found, offset, color, marker, name in parts:
        low, high = (100 * end for end in found["ci95"])
        axes.plot([low, high], [place + offset] * 2, color=color, linewidth=1.8, zorder=3)
        axes.plot(
          100 * found["difference"], place + offset, marker, color=color, markersize=5.5, zorder=4, linestyle="none",
          label=name if not place else None,
        )  # fmt: skip
      if not wide:
        axes.text(
          0.015, place - 0.36, label, fontsize=6.8, color=INK, transform=axes.get_yaxis_transform(), va="center",
          bbox={"facecolor": "#f2f4f7" if group % 2 else "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows] if wide else [""] * len(rows))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("difference in accuracy, points (95 % interval)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


FIGURES: dict[str, tuple[Callable[[Facts, str], Figure], str]] = {
  "scaling": (scaling, "curve"),
  "levels": (levels, "curve"),
  "ablations": (ablations, "ablations"),
}
