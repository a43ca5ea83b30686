"""Tokens that an endpoint may charge though no answer to them is kept: attempts that were lost, or in flight at a kill.

The file says how many there are at most, before they go out: those that are lost, and a little more than those that are
under way. So it is written seldom, and true after a kill at any moment. A run that ends in order takes back what was
under way; after a kill it counts as paid, whatever became of it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skymath_jax import files
from skymath_jax.errors import UserError

ROOM = 1.25  # of what is under way that is written down


class Ledger:
  """The lost tokens of one model, in a file that may hold those of others; for one process at a time.

  Args:
    path: of the file.
    model: whose tokens they are.
    written: called when the file has changed, which it does seldom.

  Attributes:
    lost: prompt tokens and response tokens that may have been charged in vain, earlier runs included.

  Raises:
    UserError: the file holds something else.
  """

  def __init__(self, path: os.PathLike[str], model: str, written: Callable[[], None] = lambda: None):
    self._path, self._model, self._tell = Path(path), model, written
    self._written = self.lost = self._entry(self._found())

  def cover(self, prompt: int, completion: int) -> None:
    """So many tokens are under way at most: returns when a kill could not hide them."""
    under_way = (prompt, completion)
    if any(lost + more > known for lost, more, known in zip(self.lost, under_way, self._written, strict=True)):
      self._write(self.lost[0] + round(ROOM * prompt), self.lost[1] + round(ROOM * completion))

  def lose(self, prompt: int, completion: int) -> None:
    """So many that were under way are lost."""
    self.lost = (self.lost[0] + prompt, self.lost[1] + completion)

  def close(self) -> None:
    """Nothing is under way any more."""
    if self._written != self.lost:
      self._write(*self.lost)

  def _found(self) -> dict[str, Any]:
    found = files.read_json(self._path) if self._path.exists() else {}
    return found if isinstance(found, dict) else {}

  def _entry(self, found: dict[str, Any]) -> tuple[int, int]:
    try:
      prompt, completion = map(int, found.get(self._model, (0, 0)))
    except (TypeError, ValueError):
      what, remedy = "these are no counts of tokens", "remove the file, if the bill shows that nothing was charged"
      raise UserError(what, where=self._path, remedy=remedy) from None
    return prompt, completion

  def _write(self, prompt: int, completion: int) -> None:
    files.write_json(self._path, {**self._found(), self._model: [prompt, completion]})
    self._tell()
    self._written = (prompt, completion)
