"""`skymath watch`: a page of a workdir that follows the run."""

from collections.abc import Sequence

from etils import epath

from skymath_jax import files
from skymath_jax.cli.flags import WORKDIR, Flag, parse, with_first
from skymath_jax.console import log


def watch(argv: Sequence[str]) -> int:
  """`skymath watch WORKDIR`: serves the page on this machine alone, or with `--out` writes it as it is now."""
  port = Flag("port", 8123, "of the page on 127.0.0.1; 0 takes a free one")
  out = Flag("out", None, "file to write the page to, once, instead of serving it")
  values = parse(with_first(argv, "workdir"), WORKDIR, port, out)
  from skymath_jax.report import live
  from skymath_jax.report import watch as page

  if values.out is not None:
    files.write_bytes(epath.Path(values.out), page.page(values.workdir, refresh=0).encode("utf-8", errors="replace"))
    log(f"watch: {values.out}")
    return 0
  live.serve(values.workdir, values.port, lambda address: log(f"watch: {address} (Ctrl-C ends it)"))
  return 0
