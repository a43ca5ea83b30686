"""The slots of a core as the host sees them: what is where, and the calls that fill, run and free them.

Example::

  table = SlotTable(core)
  [prefix] = core.prefill(core.params, [Prompt(tokens=(1, 5, 9), max_tokens=100)])
  table.insert(prefix, slot=0)
  rows = np.asarray(table.generate(core.params))  # [slots 2 × steps + 1]
"""

import concurrent.futures
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from skymath_jax.models import cache as kv_cache
from skymath_jax.serving import sampling as sampling_lib
from skymath_jax.serving.core import Core, Params, Prefix, Prompt, State, fitting


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
    with core.on_mesh():
      self.state, rows = core.programs.generate(params, self.state, mode, core.stop_ids, length=length)
    self.positions[live] += core.steps
    return rows

  def hold(self, length: int, *, shrink: bool = False) -> None:
    """Grows an elastic cache to `length`; shrinks it where half of it would do."""
    length = fitting(self.core.cache_buckets, length)
    if self.core.elastic and (length > self.held or (shrink and 2 * length <= self.held)):
      self.state = self.core.programs.resize(self.state, length=length)


def warm_up(core: Core) -> None:
  """Compiles what serving can ask for, several programs at once and without running any of them.

  Left out are inserts and changes of length of an elastic cache at all pairs of sizes: small programs that take a tenth
  of a second when they are first needed.
  """
  programs = core.programs
  state = jax.eval_shape(core.empty)
  value = SlotTable.values_of(Prompt(tokens=(0,), max_tokens=1), core.max_length)
  zero, wanted = np.int32(0), []

  def state_of(length: int) -> State:
    def resized(x: Any) -> Any:
      return jax.ShapeDtypeStruct((*x.shape[:2], length, x.shape[3]), x.dtype, sharding=x.sharding)

    return state._replace(cache=jax.tree.map(resized, state.cache)) if core.elastic else state

  for length in core.cache_buckets:
    held = state_of(length)
    wanted.append(
      lambda held=held, length=length: programs.generate.lower(core.params, held, zero, core.stop_ids, length=length)
    )
  for shape in core.prefill_shapes():
    tokens = jax.ShapeDtypeStruct(shape, np.int32)
    kv = jax.eval_shape(programs.prefill, core.params, tokens)
    held = state_of(fitting(core.cache_buckets, shape[1]))
    wanted.append(lambda tokens=tokens: programs.prefill.lower(core.params, tokens))
    wanted.append(lambda held=held, kv=kv: programs.insert.lower(held, kv, zero, zero, zero, value))
  for length in core.context_buckets:
    context = jax.eval_shape(lambda length=length: core.context(length))
    for bucket in core.later_buckets:
      tokens = jax.ShapeDtypeStruct((1, bucket), np.int32)
      wanted.append(lambda tokens=tokens, context=context: programs.extend.lower(core.params, tokens, context, zero))

  def compile_one(lower: Callable[[], Any]) -> None:
    with core.on_mesh():
      lower().compile()

  with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
    for _ in pool.map(compile_one, wanted):
      pass
