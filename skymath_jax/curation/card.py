"""The data set's card: size, origin, licences, funnel, statistics with pictures, and what it was checked against."""

from collections.abc import Mapping
from typing import Any

from skymath_jax import charts
from skymath_jax.curation.funnel import Funnel
from skymath_jax.curation.profile import BIN_WORDS


def card(summary: Mapping[str, Any], *, name: str, facts: Mapping[str, Any]) -> str:
  """The card in Markdown.

  Args:
    summary: the contents of `summary.json`.
    name: of the data set.
    facts: what else is known of its origin: text, or a list of lines.
  """
  checked = summary["decontamination"]
  against = ", ".join(f"{test} ({rows:,} problems)" for test, rows in checked["test_sets"].items()) or "no test set"
  return f"""# {name}

{summary["kept"]:,} (query, response) pairs with {summary["distinct_queries"]:,} distinct queries,
made by a language model. Answers are the teacher's and may be wrong; `gold_match` says where a gold answer was
known and whether it agrees.

{_origin({**facts, "choices": _choices(summary["settings"])})}

## By method

![pairs by method](methods.svg)

{_table(("method", "pairs"), summary["by_method"])}

## From synthesis to this set

![funnel](funnel.svg)

{Funnel.from_json(summary["in"], summary["steps"]).markdown()}

## Statistics

![length of query and response](lengths.svg)

{_lengths(summary["lengths"])}

{_table(("language", "pairs"), summary["by_language"])}

{_table(("level of the seed", "pairs"), summary["by_level"])}

{_table(("agrees with a known gold answer", "pairs"), summary["gold_match"])}

## Contamination

Checked against {against}:
query and response, exact after normalisation, shared runs of words, and whole questions inside a text; each pair that
was hit is in `dropped.jsonl` with the test row and the text in common.

{_hits(checked, summary.get("yardstick", {}))}

{_paraphrases(summary["settings"]["fuzzy"], checked, summary.get("yardstick", {}))}
"""


def _choices(settings: Mapping[str, Any]) -> str:
  shown = {key: " and ".join(map(str, v)) if isinstance(v, list | tuple) else v for key, v in settings.items()}
  return ", ".join(f"{key} {value or 'off'}" for key, value in shown.items())


def _paraphrases(threshold: float, checked: Mapping[str, Any], yardstick: Mapping[str, Any]) -> str:
  if not threshold:
    return "Test items in other words were not looked for (the fuzzy check was off)."
  told = (
    f"Queries whose likeness to a test question is {threshold} or more (words and numbers in common) were dropped as "
    f"hits of kind `fuzzy`: {checked['hits'].get('fuzzy', 0):,} of {checked['checked']:,}"
  )
  beside = f"; of {yardstick['name']} it flags {yardstick['fuzzy']:,} of {yardstick['checked']:,}" if yardstick else ""
  return f"{told}{beside}."


def _origin(facts: Mapping[str, Any]) -> str:
  lines = []
  for key, value in facts.items():
    if value in ("", None, [], ()):
      continue
    several = isinstance(value, list | tuple)
    lines.append(f"- {key}:" if several else f"- {key}: {value}")
    lines += [f"  - {item}" for item in value] if several else []
  return "\n".join(lines)


def _table(head: tuple[str, str], counts: Mapping[str, int]) -> str:
  rows = "\n".join(f"| {key} | {count:,} |" for key, count in counts.items())
  return f"| {head[0]} | {head[1]} |\n|---|--:|\n{rows}"


def _lengths(lengths: Mapping[str, Mapping[str, float]]) -> str:
  names = list(next(iter(lengths.values())))
  lines = [f"| | {' | '.join(names)} |", f"|---|{'--:|' * len(names)}"]
  for key, values in lengths.items():
    lines.append(f"| {key.replace('_', ' ')} | {' | '.join(f'{value:,.0f}' for value in values.values())} |")
  return "\n".join(lines)


def _hits(checked: Mapping[str, Any], yardstick: Mapping[str, Any]) -> str:
  """Pairs and shares that share a run of n words with a test item, beside the same for the yardstick's problems."""

  def cell(count: int, of: int) -> str:
    return f"{count:,} ({count / of:.2%})" if of else f"{count:,}"

  head = ["shared words", f"pairs of {checked['checked']:,}"]
  head += [f"{yardstick['name']} ({yardstick['checked']:,})"] if yardstick else []
  lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
  for n, count in checked["ngram_hits"].items():
    cells = [f"{n} or more", cell(count, checked["checked"])]
    cells += [cell(yardstick["ngram_hits"][n], yardstick["checked"])] if yardstick else []
    lines.append(f"| {' | '.join(cells)} |")
  kinds = ", ".join(f"{kind} {count:,}" for kind, count in checked["hits"].items()) or "none"
  sets = ", ".join(f"{name} {count:,}" for name, count in checked["hits_by_test_set"].items()) or "none"
  return "\n".join(lines) + f"\n\nDropped as leaks, by kind: {kinds}; by test set: {sets}."


def pictures(summary: Mapping[str, Any]) -> dict[str, str]:
  """File name → SVG text of the card's pictures."""
  funnel = {"made": summary["in"]} | {f"after {step['name']}": step["out"] for step in summary["steps"]}
  histogram = summary["histogram"]
  last = len(histogram) - 1
  lengths = {
    f"{i * BIN_WORDS}{' or more' if i == last == 40 else f'–{(i + 1) * BIN_WORDS - 1}'} words": count
    for i, count in enumerate(histogram)
  }
  return {
    "funnel.svg": _bars("From synthesis to this set", funnel),
    "methods.svg": _bars("Pairs by method", summary["by_method"]),
    "lengths.svg": _bars("Length of query and response together", lengths),
  }


def _bars(title: str, values: Mapping[str, int]) -> str:
  rows = [(label, [("neutral", "pairs", value)]) for label, value in values.items()]
  return charts.standalone(title, charts.bars(title, rows, charts.WIDE))
