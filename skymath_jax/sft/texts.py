"""Generated training text: rows to train the bundled models from nothing on what the micro world can write.

  generate("micro_gsm/teacher", 1000)[0]  ->  {"query": a filled-in prompt, "response": what a teacher should answer}
  generate("micro_gsm/base", 1000)[0]     ->  {"query": "", "response": plain text of the world}

They are trained with the template "raw": the query is the whole prompt.
"""

import dataclasses
import difflib
import hashlib
from collections.abc import Callable, Iterator

from skymath_jax import prompts
from skymath_jax.errors import UserError
from skymath_jax.problems.micro_gsm import targets

Row = dict[str, str]


@dataclasses.dataclass(frozen=True)
class TextSet:
  """Rows in memory, with the random access and the fingerprint that the trainer asks of its source."""

  rows: tuple[Row, ...]

  def __len__(self) -> int:
    return len(self.rows)

  def __iter__(self) -> Iterator[Row]:
    return iter(self.rows)

  def __getitem__(self, index: int) -> Row:
    return self.rows[index]

  @property
  def fingerprint(self) -> str:
    digest = hashlib.sha256()
    for row in self.rows:
      digest.update(f"{row['query']}\0{row['response']}\0".encode())
    return digest.hexdigest()[:16]


def _teacher(count: int, rng_seed: int) -> Iterator[Row]:
  for name, fields, completion in targets.teacher_examples(count, rng_seed):
    yield {"query": prompts.load(name).render(**fields), "response": completion}


def _base(count: int, rng_seed: int) -> Iterator[Row]:
  for text in targets.base_examples(count, rng_seed):
    yield {"query": "", "response": text}


TEXTS: dict[str, Callable[[int, int], Iterator[Row]]] = {"micro_gsm/teacher": _teacher, "micro_gsm/base": _base}


def generate(name: str, count: int, *, rng_seed: int = 0) -> TextSet:
  """`count` rows of the text set `name`: the same ones for the same arguments.

  Raises:
    UserError: there is no such text set.
  """
  if name not in TEXTS:
    near = difflib.get_close_matches(name, TEXTS, n=1, cutoff=0.0)[0]
    raise UserError(f"no text set is called {name!r}", where="config.training.data", remedy=f"did you mean {near!r}?")
  return TextSet(tuple(TEXTS[name](count, rng_seed)))
