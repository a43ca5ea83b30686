"""Compiles all that serving can ask for: to compile later would stop all streams for seconds.

On a CPU there are too many sizes of an elastic state for that: compiled is what the first request will need, the rest
as it is asked for. What took long stays in JAX's persistent cache.
"""

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
  """Decode calls that read as far as each bucket, and inserts of every piece."""
  programs, sizes = engine.programs, engine.sizes
  values = slot_values(Prompt(tokens=(0,), max_tokens=1), sizes.max_length)
  state = abstract_state(engine.config, *sizes.first_state(), engine.kv_dtype, engine.place)
  for length in sizes.cache[: 1 if sizes.elastic else None]:
    yield functools.partial(programs.generate.lower, engine.params, state, ZERO, engine.stop_ids, length=length)
  shapes = sizes.piece_shapes()[: 1 if sizes.elastic else None]
  for length in sorted({length for _, length in shapes}):
    kv = abstract_kv(engine.config, 1, length, engine.place)
    yield functools.partial(programs.insert.lower, state, kv, ZERO, ZERO, values)
  for rows, length in shapes:
    if rows > 1:
      yield functools.partial(programs.row_of.lower, abstract_kv(engine.config, rows, length, engine.place), ZERO)


def _prefill_programs(engine: Engine) -> Iterator[Lowering]:
  """Prefill of first pieces, and of later ones with the tokens before them at hand."""
  programs, sizes = engine.programs, engine.sizes

  def tokens(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.int32)

  for shape in sizes.prefill_shapes()[: 1 if sizes.elastic else None]:
    yield functools.partial(programs.prefill.lower, engine.params, tokens(*shape))
  if sizes.elastic:
    return
  for room in sizes.context:
    context = abstract_kv(engine.config, 1, room, engine.place)
    yield functools.partial(programs.context.lower, length=room)
    for rows in sizes.rows_of(sizes.chunk):
      kv = abstract_kv(engine.config, rows, sizes.chunk, engine.place)
      yield functools.partial(programs.gather.lower, context, kv, ZERO, ZERO)
    for length in sizes.later:
      yield functools.partial(programs.extend.lower, engine.params, tokens(1, length), context, ZERO)
