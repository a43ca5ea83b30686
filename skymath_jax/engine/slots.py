"""The slots of a core as the host sees them: what is where, and the calls that fill, run and free them.

Example::

  table = SlotTable(core)
  [prefix] = core.prefill(core.params, [Prompt(tokens=(1, 5, 9), max_tokens=100)])
  table.insert(prefix, slot=0)
  rows = np.asarray(table.generate(core.params))  # [slots 2 × steps + 1]
"""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import numpy as np

from skymath_jax.engine import sampling as sampling_lib
from skymath_jax.engine.core import Core, Params, Prefix, Prompt, fitting
from skymath_jax.models import cache as kv_cache


class SlotTable:
  """The state on the device, and for each slot an upper bound of where it is, known without asking the device."""

  def __init__(self, core: Core):
    self.core = core
    self.reset()

  def reset(self) -> None:
    """Idle slots and a new state, whatever became of the old one."""
    self.state = None  # frees the old one first
    self.state = self.core.empty()
    self.positions = np.zeros(self.core.slots, np.int64)  # of the token to be fed next
    self.ends = np.zeros(self.core.slots, np.int64)  # one past the last position ever fed; 0 is idle
    self.modes = np.zeros(self.core.slots, np.int32)

  @property
  def lost(self) -> bool:
    """Whether a failed call took the device state with it."""
    return self.state is None or any(x.is_deleted() for x in jax.tree.leaves(self.state))

  @property
  def held(self) -> int:
    """Positions that the cache has room for."""
    return kv_cache.room(self.state.cache)

  def insert(self, prefix: Prefix, slot: int) -> None:
    """Gives `slot` to a prefilled prompt; whatever the slot held is forgotten."""
    prompt, core = prefix.prompt, self.core
    values = self.values_of(prompt, core.max_length)
    start, most = int(values["positions"]), int(values["remaining"])
    self.hold(prefix.pieces[-1].start + prefix.pieces[-1].bucket)
    with core.on_mesh():
      for piece in prefix.pieces:
        where = (np.int32(piece.row), np.int32(slot), np.int32(piece.start))
        self.state = core.programs.insert(self.state, piece.kv, *where, values)
    self.positions[slot], self.ends[slot], self.modes[slot] = start, start + most, prompt.mode

  @staticmethod
  def values_of(prompt: Prompt, max_length: int) -> dict[str, Any]:
    """What a slot holds besides keys and values when `prompt` has just been inserted."""
    return {
      "tokens": np.int32(prompt.tokens[-1]),
      "positions": np.int32(len(prompt.tokens) - 1),
      "remaining": np.int32(min(prompt.max_tokens, max_length - len(prompt.tokens))),
      "generated": np.int32(0),
      "keys": np.array([prompt.seed >> 32, prompt.seed & 0xFFFFFFFF], np.uint32),
      "temperature": np.float32(prompt.temperature),
      "top_p": np.float32(prompt.top_p),
      "top_k": np.int32(prompt.top_k),
    }

  def release(self, slot: int) -> None:
    """Forgets a slot that is done or given up; the device may go on with it, unseen, until the slot is given away."""
    self.ends[slot] = 0

  def generate(self, params: Params) -> jax.Array:
    """`Programs.generate` for the live slots; does not wait for the device."""
    core, live = self.core, self.ends > self.positions
    reach = np.minimum(self.positions + core.steps, self.ends)[live]
    length = fitting(core.cache_buckets, int(reach.max(initial=1)))
    mode = np.int32(self.modes[live].max(initial=sampling_lib.GREEDY))
    self.hold(length, shrink=True)
    length = self.held if core.elastic else length  # to read a part is to copy it
    with core.on_mesh():
      self.state, rows = core.programs.generate(params, self.state, mode, core.stop_ids, length=length)
    self.positions[live] += core.steps
    return rows

  def hold(self, length: int, *, shrink: bool = False) -> None:
    """Grows an elastic cache to `length`; shrinks it where half of it would do."""
    length = fitting(self.core.cache_buckets, length)
    if self.core.elastic and (length > self.held or (shrink and 2 * length <= self.held)):
      with self.core.on_mesh():
        self.state = self.core.programs.resize(self.state, length=length)


def warm_up(core: Core) -> None:
  """Compiles all that serving can ask for, several programs at once and without running any of them."""

  def compile_one(lower: Callable[[], Any]) -> None:
    with core.on_mesh():
      lower().compile()

  with core.on_mesh():
    wanted = [*_decode_programs(core), *_prefill_programs(core)]
  with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
    for _ in pool.map(compile_one, wanted):
      pass


Lowering: TypeAlias = Callable[[], jax.stages.Lowered]
ZERO = np.int32(0)


def _decode_programs(core: Core) -> Iterator[Lowering]:
  """Decode calls, changes of length, and inserts of every piece into a cache of every length that can hold it."""
  programs, lengths = core.programs, core.cache_buckets
  values = SlotTable.values_of(Prompt(tokens=(0,), max_tokens=1), core.max_length)
  held = {length: core.abstract_state(length) for length in (lengths if core.elastic else lengths[-1:])}
  for length in lengths:
    state = held[length if core.elastic else lengths[-1]]
    yield functools.partial(programs.generate.lower, core.params, state, ZERO, core.stop_ids, length=length)
  for room, state in held.items():
    for rows, length in core.piece_shapes():
      if length <= room:
        kv = core.abstract_kv(rows, length)
        yield functools.partial(programs.insert.lower, state, kv, ZERO, ZERO, ZERO, values)
    for other in held:
      if other > room or 2 * other <= room:
        yield functools.partial(programs.resize.lower, state, length=other)


def _prefill_programs(core: Core) -> Iterator[Lowering]:
  """Prefill of first pieces, and of later ones with the tokens before them at hand."""
  programs = core.programs

  def tokens(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.int32)

  for shape in core.prefill_shapes():
    yield functools.partial(programs.prefill.lower, core.params, tokens(*shape))
  for room in core.context_buckets:
    context = core.abstract_kv(1, room)
    yield functools.partial(programs.context.lower, length=room)
    for rows in core.rows_of(core.chunk):
      kv = core.abstract_kv(rows, core.chunk)
      yield functools.partial(programs.gather.lower, context, kv, ZERO, ZERO)
    for length in core.later_buckets:
      yield functools.partial(programs.extend.lower, core.params, tokens(1, length), context, ZERO)
