"""Compiles all that serving can ask for: to compile later would stop all streams for seconds."""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterator
from typing import TypeAlias

import jax
import numpy as np

from skymath_jax.engine.engine import Engine
from skymath_jax.engine.programs import abstract_kv, abstract_state
from skymath_jax.engine.slots import slot_values
from skymath_jax.engine.types import Prompt

Lowering: TypeAlias = Callable[[], jax.stages.Lowered]
ZERO = np.int32(0)


def warm_up(engine: Engine) -> None:
  """Compiles several programs at once, and runs none of them."""

  def compile_one(lower: Lowering) -> None:
    with engine.on_mesh():
      lower().compile()

  with engine.on_mesh():
    wanted = [*_decode_programs(engine), *_prefill_programs(engine)]
  with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
    for _ in pool.map(compile_one, wanted):
      pass


def _decode_programs(engine: Engine) -> Iterator[Lowering]:
  """Decode calls, changes of length, and inserts of every piece into a cache of every length that can hold it."""
  programs, sizes = engine.programs, engine.sizes
  values = slot_values(Prompt(tokens=(0,), max_tokens=1), sizes.max_length)
  states = {
    length: abstract_state(engine.config, sizes.slots, length, engine.kv_dtype, engine.place)
    for length in (sizes.cache if sizes.elastic else sizes.cache[-1:])
  }
  for length in sizes.cache:
    state = states[length if sizes.elastic else sizes.cache[-1]]
    yield functools.partial(programs.generate.lower, engine.params, state, ZERO, engine.stop_ids, length=length)
  for room, state in states.items():
    for rows, length in sizes.piece_shapes():
      if length <= room:
        kv = abstract_kv(engine.config, rows, length, engine.place)
        yield functools.partial(programs.insert.lower, state, kv, ZERO, ZERO, ZERO, values)
    for other in states:
      if other > room or 2 * other <= room:
        yield functools.partial(programs.resize.lower, state, length=other)


def _prefill_programs(engine: Engine) -> Iterator[Lowering]:
  """Prefill of first pieces, and of later ones with the tokens before them at hand."""
  programs, sizes = engine.programs, engine.sizes

  def tokens(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.int32)

  for shape in sizes.prefill_shapes():
    yield functools.partial(programs.prefill.lower, engine.params, tokens(*shape))
  for room in sizes.context:
    context = abstract_kv(engine.config, 1, room, engine.place)
    yield functools.partial(programs.context.lower, length=room)
    for rows in sizes.rows_of(sizes.chunk):
      kv = abstract_kv(engine.config, rows, sizes.chunk, engine.place)
      yield functools.partial(programs.gather.lower, context, kv, ZERO, ZERO)
    for length in sizes.later:
      yield functools.partial(programs.extend.lower, engine.params, tokens(1, length), context, ZERO)
