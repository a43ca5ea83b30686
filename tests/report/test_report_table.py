"""The table at the end of `skymath run`."""

import io

from rich.console import Console

from skymath_jax import files
from skymath_jax.report.table import summary_table


def shown(summary):
  console = Console(file=io.StringIO(), width=80, highlight=False, soft_wrap=True)
  console.print(summary_table(summary))
  return console.file.getvalue().replace("\u00a0", " ")


def test_numbers_are_those_of_the_summary_and_fit_a_terminal(finished):
  summary = files.read_json(finished / "summary.json")
  text = shown(summary)
  assert max(map(len, text.splitlines())) <= 80
  for facts in summary["accuracy"].values():
    low, high = (100 * end for end in facts["ci95"])
    assert f"{100 * facts['all']:.1f} [{low:.1f}–{high:.1f}]" in text
    for share in facts["by_level"].values():
      assert f"{100 * share:.1f} [" in text
  assert f"{summary['instances']['kept']} kept, {sum(summary['instances']['dropped'].values())} dropped" in text
  for reason, count in summary["instances"]["dropped"].items():
    assert f"{reason} {count}" in " ".join(text.split())
  assert "synthesize 2,712" in text


def test_columns_are_the_models_that_were_evaluated():
  text = shown({"accuracy": {"base": {"all": 0.125, "by_level": {"1": 0.5}}}})
  assert "base" in text
  assert "stage" not in text
  assert "12.5" in text
  assert "[" not in text  # no size, no interval


def test_what_is_missing_is_left_out():
  assert shown({}).strip() == ""
  assert "dropped" not in shown({"instances": {"kept": 3, "dropped": {}}})


def test_markup_in_names_is_text():
  assert "[red]odd[/]" in shown({"instances": {"kept": 1, "dropped": {"[red]odd[/]": 2}}})
