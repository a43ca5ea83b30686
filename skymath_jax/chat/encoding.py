"""Rows as token ids by all cores, in their order; where there are few, by this process alone.

Each worker loads the tokenizer from a copy of its files and renders templates in a sandbox of its own. No more pieces
are under way than keep all workers busy, so memory does not grow with the number of rows.
"""

import collections
import dataclasses
import itertools
import multiprocessing
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeAlias

import numpy as np

from skymath_jax import tokenizer as tokenizer_lib
from skymath_jax.chat import frames
from skymath_jax.chat.frames import Frame, Row

PIECE = 256  # rows that travel together
FEW = 16  # pieces for which no processes are started: that takes some seconds

Piece: TypeAlias = tuple[int, Sequence[Row]]  # number of its first row, rows


@dataclasses.dataclass(frozen=True)
class Encoded:
  """Some rows, one after the other.

  Attributes:
    tokens: int32 `[all tokens]`.
    trained: bool `[all tokens]`, whether a token is trained.
    lengths: tokens of each row, int32 `[rows]`; 0 where there is no answer.
    targets: trained tokens of each row, int32 `[rows]`.
  """

  tokens: np.ndarray
  trained: np.ndarray
  lengths: np.ndarray
  targets: np.ndarray


def encode(rows: Iterable[Row], tokenizer: Any, template: str, *, processes: int = 0) -> Iterator[Encoded]:
  """All rows in the frame `template`, piece by piece.

  Args:
    rows: `{"query", "response"}` or `{"messages"}`.
    tokenizer: a `Tokenizer`; without worker processes whatever `frames.load` takes.
    template: as `training.template`.
    processes: workers; 0 = one for each core.

  Raises:
    UserError: see `frames`.
  """
  frame, pieces = frames.load(template, tokenizer), _pieces(rows)
  processes = processes or len(os.sched_getaffinity(0))
  first = list(itertools.islice(pieces, FEW))
  if len(first) < FEW or processes == 1:
    yield from (_encoded(frame, piece) for piece in itertools.chain(first, pieces))
    return
  spawned = multiprocessing.get_context("spawn")  # a fork would copy the threads of JAX
  with tempfile.TemporaryDirectory() as folder:
    tokenizer.save(folder)
    with ProcessPoolExecutor(processes, spawned, _begin, (folder, template)) as pool:
      under_way: collections.deque[Future[Encoded]] = collections.deque()
      try:
        for piece in itertools.chain(first, pieces):
          under_way.append(pool.submit(_work, piece))
          if len(under_way) > 2 * processes:
            yield under_way.popleft().result()
        while under_way:
          yield under_way.popleft().result()
      finally:
        pool.shutdown(cancel_futures=True)


def _pieces(rows: Iterable[Row]) -> Iterator[Piece]:
  left = iter(rows)
  for number in itertools.count(0, PIECE):
    if not (piece := list(itertools.islice(left, PIECE))):
      return
    yield number, piece


def _encoded(frame: Frame, piece: Piece) -> Encoded:
  start, rows = piece
  found = frame.examples(rows, [f"row {start + i}" for i in range(len(rows))])
  made = [example for example in found if example is not None]
  targets = [sum(example.trained) if example is not None else 0 for example in found]
  return Encoded(
    tokens=np.fromiter(itertools.chain.from_iterable(example.tokens for example in made), np.int32),
    trained=np.fromiter(itertools.chain.from_iterable(example.trained for example in made), bool),
    lengths=np.array([len(example.tokens) if example is not None else 0 for example in found], np.int32),
    targets=np.array(targets, np.int32),
  )


_FRAME: list[Frame] = []  # of a worker process


def _begin(folder: str, template: str) -> None:
  os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a worker for each core
  _FRAME.append(frames.load(template, tokenizer_lib.load(folder)))


def _work(piece: Piece) -> Encoded:
  return _encoded(_FRAME[0], piece)
