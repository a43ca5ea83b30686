"""What `skymath run` prints at the end: accuracy by level, instances made, kept and dropped, tokens a second."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from skymath_jax.report import read
from skymath_jax.report.read import MODELS, Row
from skymath_jax.statistics import Estimate


def summary_table(summary: Row) -> RenderableType:
  """The contents of `summary.json` for the terminal; what it lacks is left out."""
  lines = Table.grid(padding=(0, 2, 0, 1))
  for name, value in _facts(summary).items():
    lines.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
  parts = [_accuracy(summary)] if read.part(summary, "accuracy") else []
  return Group(*parts, lines)


def _accuracy(summary: Row) -> Table:
  table = Table(title="Accuracy in percent, with 95 % intervals", title_justify="left", title_style="bold")
  accuracy = {name: facts for name in MODELS if (facts := read.part(summary, "accuracy", name))}
  table.add_column("level")
  table.add_column("n", justify="right")
  for name in accuracy:
    table.add_column(MODELS[name], justify="right", no_wrap=True)
  by_model = {name: read.grouped(facts, {}, "level") for name, facts in accuracy.items()}
  levels = dict.fromkeys(level for found in by_model.values() for level in found)
  for level in levels:
    _add_row(table, level, [by_model[name].get(level) for name in accuracy])
  table.add_section()
  _add_row(table, "all", [read.overall(facts) for facts in accuracy.values()], style="bold")
  return table


def _add_row(table: Table, label: str, found: list[Estimate | None], style: str | None = None) -> None:
  size = next((f"{estimate.n:,}" for estimate in found if estimate and estimate.n), "")
  table.add_row(label, size, *(Text(_cell(estimate)) for estimate in found), style=style)


def _cell(found: Estimate | None) -> str:
  if found is None:
    return "\u2013"
  if found.low is None or found.high is None:
    return f"{100 * found.value:.1f}"
  return f"{100 * found.value:.1f} [{100 * found.low:.1f}\u2013{100 * found.high:.1f}]"


def _facts(summary: Row) -> dict[str, str]:
  """Name → one line of text."""
  dropped = read.counts(summary, "instances", "dropped")
  kept, made = (read.number(read.part(summary, "instances").get(key)) for key in ("kept", "made"))
  numbers = [f"{made:,} made"] if made is not None else []
  numbers += [f"{kept:,} kept"] if kept is not None else []
  numbers += [f"{sum(dropped.values()):,} dropped"] if dropped else []
  reasons = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
  speeds = read.counts(summary, "tokens_per_second")
  facts = {
    "instances": ", ".join(numbers),
    "dropped": ", ".join(f"{name} {count:,}" for name, count in reasons if count),
    "requests": ", ".join(f"{name} {count:,}" for name, count in read.counts(summary, "requests").items()),
    "tokens/s": ", ".join(f"{name} {value:,.0f}" for name, value in speeds.items()),
    "seconds": f"{sum(read.counts(summary, 'seconds').values()):,.0f}" if read.counts(summary, "seconds") else "",
  }
  return {name: value for name, value in facts.items() if value}
