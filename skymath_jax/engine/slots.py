"""The slots of an engine as the host sees them: what is where, and the calls that fill, run and free them.

Example::

  engine = Engine(decoder, EngineSettings(slots=4, max_length=256, steps_per_call=8))
  slots = Slots(engine)
  [prefix] = engine.prefill([Prompt(tokens=(1, 5, 9), max_tokens=100)])
  slots.insert(prefix, slot=0)
  rows = np.asarray(slots.generate())  # int32 [slots 2 × steps + 1], see `Programs.generate`
"""

from typing import Any

import jax
import numpy as np

from skymath_jax import heap
from skymath_jax.engine.engine import Engine
from skymath_jax.engine.prefix import Prefix
from skymath_jax.engine.programs import State
from skymath_jax.engine.sizes import bucket_for
from skymath_jax.engine.types import Prompt, SamplingMode
from skymath_jax.models import cache


class Slots:
  """The state on the device, and for each slot an upper bound of where it is, known without asking the device."""

  def __init__(self, engine: Engine):
    self.count = engine.sizes.slots
    self._engine = engine
    self.reset()

  def reset(self) -> None:
    """Idle slots and a new state, whatever became of the old one."""
    self._state: State | None = None  # frees the old one first
    self._state = self._engine.idle_state()
    self._rows: dict[int, int] = {}  # busy slot → its row of the state
    self._positions = np.zeros(self.count, np.int64)  # of the token to be fed next
    self._ends = np.zeros(self.count, np.int64)  # one past the last position ever fed; 0 is idle
    self._modes = np.zeros(self.count, np.int32)

  @property
  def lost(self) -> bool:
    """Whether a failed call took the device state with it."""
    return self._state is None or any(x.is_deleted() for x in jax.tree.leaves(self._state))

  @property
  def state(self) -> State:
    """What lives on the device."""
    assert self._state is not None
    return self._state

  def insert(self, prefix: Prefix, slot: int) -> None:
    """Gives `slot` to a prefilled prompt; whatever the slot held is forgotten."""
    engine, prompt = self._engine, prefix.prompt
    values = slot_values(prompt, engine.max_length)
    start, most = int(values["positions"]), int(values["remaining"])
    self._rows.pop(slot, None)
    self._resize(prefix.pieces[-1].start + prefix.pieces[-1].bucket, len(self._rows) + 1)
    row = self._free_row(slot)
    with engine.on_mesh():
      for piece in prefix.pieces:
        kv = piece.kv if len(piece.kv[0][0]) == 1 else engine.programs.row_of(piece.kv, np.int32(piece.row))
        self._state = engine.programs.insert(self.state, kv, np.int32(row), np.int32(piece.start), values)
    self._rows[slot] = row
    self._positions[slot] = start
    self._ends[slot] = start + most
    self._modes[slot] = prompt.mode

  def release(self, slot: int) -> None:
    """Forgets a slot that is done or given up; the device may go on with it, unseen, until the slot is given away."""
    self._ends[slot] = 0
    self._rows.pop(slot, None)

  def generate(self) -> jax.Array:
    """Begins `Programs.generate` for the live slots: int32 `[slots 2 × steps + 1]`, of which reading is waiting."""
    engine, sizes, live = self._engine, self._engine.sizes, self._ends > self._positions
    reach = np.minimum(self._positions + sizes.steps, self._ends)[live]
    length = bucket_for(sizes.cache, int(reach.max(initial=1)))
    mode = np.int32(self._modes[live].max(initial=SamplingMode.GREEDY))
    self._resize(length, len(self._rows), shrink=True)
    length = cache.room(self.state.cache) if sizes.elastic else length  # to read a part is to copy it
    with engine.on_mesh():
      self._state, rows = engine.programs.generate(engine.params, self.state, mode, engine.stop_ids, length=length)
    self._positions[live] += sizes.steps
    if not sizes.compact:
      return rows
    return engine.programs.by_slot(rows, np.array([self._rows.get(slot, 0) for slot in range(self.count)], np.int32))

  def _free_row(self, slot: int) -> int:
    """A row that no busy slot has; the slot's own number where rows are as many as slots."""
    if not self._engine.sizes.compact:
      return slot
    return min(set(range(self._held_rows())) - set(self._rows.values()))

  def _held_rows(self) -> int:
    return self.state.tokens.shape[0]

  def _resize(self, length: int, rows: int, *, shrink: bool = False) -> None:
    """Grows an elastic state to `length` and `rows`; shrinks it where half the length, or fewer rows, would do."""
    sizes, held, held_rows = self._engine.sizes, cache.room(self.state.cache), self._held_rows()
    length = bucket_for(sizes.cache, length)
    rows = bucket_for(sizes.rows, rows) if sizes.compact else held_rows
    if not (length > held or (shrink and 2 * length <= held)):
      length = held
    if not (rows > held_rows or shrink):
      rows = held_rows
    if not sizes.elastic or (length, rows) == (held, held_rows):
      return
    heap.give_back()  # what is unused, before both states are there at once
    resize = self._engine.programs.resize  # one thing at a time: each pair of both would be a program of its own
    with self._engine.on_mesh():
      if rows != held_rows:  # busy ones move to the front
        order = np.array([*self._rows.values(), *[-1] * (rows - len(self._rows))], np.int32)
        self._rows = {slot: row for row, slot in enumerate(self._rows)}
        self._state = resize(self.state, order, length=held)
      if length != held:
        self._state = resize(self.state, None, length=length)


def slot_values(prompt: Prompt, max_length: int) -> dict[str, np.generic | np.ndarray[Any, Any]]:
  """What a slot holds besides keys and values when `prompt` has just been inserted, by field of `State`.

  Numbers, but for `keys` `[2]`.
  """
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
