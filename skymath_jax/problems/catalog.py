"""Names → problems: the catalog's sources, the micro world, and the user's own files.

  load("gsm8k")                     GSM8K's default split, train
  load("math:test")                 one split
  load("agieval:sat_math+aqua_rat") several
  load("micro_gsm:test*2000")       so many problems of the micro world, which can draw any number
  load("svamp"), load("mgsm:de")    a published test set (`published.py`); `suites.py` says which belong together
  load("mine.jsonl")                anything that `rows` reads: files, folders, their splits, data sets of the hub

A new source of seeds = one class in `sources.py` and one line here; a new test set = one entry in `published.py`.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence

import tensorflow_datasets as tfds
from etils import epath

from skymath_jax import rows
from skymath_jax.config import Seeds
from skymath_jax.errors import UserError
from skymath_jax.problems import published, sources, user_files
from skymath_jax.problems.builder import Source
from skymath_jax.problems.micro_gsm import builder as micro_gsm
from skymath_jax.problems.micro_gsm import oracle as micro_gsm_oracle
from skymath_jax.records import Problem

MICRO_GSM = "micro_gsm"
SOURCES: dict[str, type[Source]] = {
  "gsm8k": sources.Gsm8k,
  "math": sources.Math,
  "agieval": sources.Agieval,
  "olympiadbench": sources.Olympiadbench,
  "scibench": sources.Scibench,
  "jeebench": sources.Jeebench,
}


Oracle = Callable[[str, str], tuple[bool, bool]]  # (query, answer) → (well-formed question, right answer)
ORACLES: dict[str, Oracle] = {MICRO_GSM: micro_gsm_oracle.check}


def oracle(sources: Sequence[str]) -> Oracle | None:
  """What can re-solve any question made from these sources, where something can."""
  return ORACLES[sources[0]] if len(sources) == 1 and sources[0] in ORACLES else None


def citation(name: str) -> str:
  """`; CITATION` of a catalog source, nothing for other names: what a card adds to the name."""
  if name in published.SETS:
    return f"; {published.SETS[name].citation}"
  return f"; {SOURCES[name].CITATION}" if name in SOURCES else ""


def names() -> list[str]:
  """All names that `load` knows, sorted."""
  return sorted([*SOURCES, *published.SETS, MICRO_GSM])


def load(name_or_path: str, *, split: str | None = None, data_dir: epath.PathLike = Seeds.data_dir) -> list[Problem]:
  """The problems of a source, or of a file or folder of the user's.

  Args:
    name_or_path: a catalog name, `name:split`, `name:split+split`, or the path of a file or folder of the user's.
    split: the same as after the colon; default the source's own (`Source.DEFAULT`; "train" for the micro world).
    data_dir: files fetched by hand lie in `data_dir/SOURCE/`; prepared sets and downloads are kept here too.

  Raises:
    UserError: no such name (the nearest is given), split or file, or a file that is not what it should be.
  """
  text = str(name_or_path)
  name, _, after_colon = text.partition(":")
  wanted = split or after_colon or None
  if name == MICRO_GSM:
    return _micro_gsm(text, wanted or "train")
  if name in published.SETS:
    found_set = published.SETS[name]
    splits = wanted.split("+") if wanted else [found_set.default]
    folder = epath.Path(data_dir).expanduser()
    return [p for part in splits for p in published.load(name, _checked(part, found_set.files, text), folder)]
  if name not in SOURCES:
    if rows.is_table(text):
      return user_files.load(f"{text}:{split}" if split else text)
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
    remedy = (
      f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(names())}, or a file, such as .jsonl"
    )
    raise UserError(f"no data set is called {name!r}", where=text, remedy=remedy)
  source = SOURCES[name]
  found = []
  for part in wanted.split("+") if wanted else source.DEFAULT:
    found += _prepared(source, _checked(part, source.FILES, text), epath.Path(data_dir).expanduser())
  return found


def _checked(split: str, splits: Iterable[str], text: str) -> str:
  if split not in splits:
    remedy = f"use one of {', '.join(splits)}"
    raise UserError(f"{text.partition(':')[0]} has no split {split!r}", where=text, remedy=remedy)
  return split


def _micro_gsm(text: str, wanted: str) -> list[Problem]:
  part, star, count = wanted.partition("*")
  if star and not (count.isdecimal() and int(count)):
    raise UserError(f"{count!r} is no number of problems", where=text, remedy=f"write {MICRO_GSM}:{part}*2000")
  return micro_gsm.problems(part, int(count) if star else None)


def _prepared(source: type[Source], split: str, data_dir: epath.Path) -> list[Problem]:
  tfds.disable_progress_bar()  # two bars a file, for what takes a second
  return source(split=split, data_dir=data_dir).problems()
