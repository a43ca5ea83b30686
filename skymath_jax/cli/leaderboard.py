"""`skymath leaderboard`: all evaluations below a folder on one page."""

from collections.abc import Sequence

from skymath_jax.cli.flags import Flag, parse, with_first
from skymath_jax.console import log


def leaderboard(argv: Sequence[str]) -> int:
  """`skymath leaderboard FOLDER`; a `UserError` says that there is nothing below it."""
  folder = Flag("folder", None, "where evaluations lie, at any depth; may stand without its name", required=True)
  out = Flag("out", None, "the page to write, instead of FOLDER/leaderboard.html")
  values = parse(with_first(argv, "folder"), folder, out)
  from skymath_jax.report import leaderboard as page

  log(f"leaderboard: {page.write(values.folder, values.out)}")
  return 0
