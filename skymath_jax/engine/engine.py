"""One decoder made ready for serving: its parameters on the devices, its compiled programs, and prefill.

A prompt goes in here and comes out as a `Prefix`, keys and values that `slots` puts into a slot. Long prompts are
prefilled in pieces (`prefix`), so that a running stream waits for one piece at most.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp

from skymath_jax.engine import programs, weights
from skymath_jax.engine.prefix import Piece, Prefix, PrefixCache, key_of, spans
from skymath_jax.engine.programs import State
from skymath_jax.engine.sizes import Sizes, bucket_for
from skymath_jax.engine.types import EngineSettings, Prompt, prefix_budget
from skymath_jax.models import Decoder, attention, product
from skymath_jax.models.cache import KVCache

T = TypeVar("T")


class Scores(NamedTuple):
  """Behind each of `length` tokens: what came next, and what was likeliest.

  Attributes:
    logprobs: `[length]`, of the token that did come next; the last has no meaning.
    top_ids, top_logprobs: `[length TOP]`, likeliest first.
  """

  logprobs: np.ndarray
  top_ids: np.ndarray
  top_logprobs: np.ndarray


class Engine:
  """Safe to use from several threads.

  Args:
    decoder: any decoder; load it with the dtype it is to be served in.
    settings: slots, lengths, number formats.
    stop_ids: tokens that end a response.

  Attributes:
    params: one array per layer and weight, rounded if the settings say so, turned on a CPU.
    config: of the decoder.
    max_length: prompt and response tokens that a slot can hold.
    vocab_size: token ids are smaller.
    prefill_rows: prompts that may usefully be prefilled together.
    sizes: of the arrays that programs are compiled for.
    programs: the compiled programs, shared by models of one shape.
    prefixes: the cache of prompt pieces, with its counts of tokens computed and reused.
    mesh: over which the parameters are spread; None for one device.
    place: the mesh or the device.
    stop_ids: int32 `[n]`.
  """

  def __init__(self, decoder: Decoder, settings: EngineSettings, *, stop_ids: tuple[int, ...] = ()):
    params = nnx.state(decoder.unstacked(), nnx.Param)
    where = jax.tree.leaves(params)[0].sharding
    mesh = where.mesh if isinstance(where, jax.sharding.NamedSharding) else None
    self.mesh = mesh if isinstance(mesh, jax.sharding.Mesh) and mesh.size > 1 else None
    # JAX compiles once more for arrays that are bound to their device: here all are, from the first call on
    device = jax.sharding.SingleDeviceSharding(next(iter(where.device_set)))
    self.place: jax.sharding.Mesh | jax.sharding.Sharding = device if self.mesh is None else self.mesh
    # a model that was trained here names what its backward pass recomputed; there is none in here
    self.config = dataclasses.replace(decoder.config, scan_layers=False, remat="none")
    on_one_cpu = self.mesh is None and product.wide_sums(jnp.dtype(self.config.dtype))
    kept: weights.Params = params
    if settings.weights == "int8":
      kept = weights.quantize(params, give_up=settings.give_up)
    elif on_one_cpu:
      kept = weights.turn(params, give_up=settings.give_up)
    self.params = self._bound(kept)
    self.kv_dtype = settings.kv_dtype(self.config.dtype)
    elastic = jax.default_backend() == "cpu" and not attention.uses_flat_cache(self.config)
    compact = elastic and on_one_cpu
    self.sizes = Sizes(settings, max_positions=decoder.config.servable_positions, elastic=elastic, compact=compact)
    self.max_length = self.sizes.max_length
    self.vocab_size = self.config.vocab_size
    self.prefill_rows = self.sizes.prefill_rows
    self.stop_ids = np.array(stop_ids or (-1,), np.int32)  # -1 is no token
    self.programs = programs.programs_of(self.config, self.sizes.steps)
    budget = settings.prefix_tokens
    self.prefixes = PrefixCache(prefix_budget(self.max_length) if budget is None else budget)

  def on_mesh(self) -> contextlib.AbstractContextManager[Any]:
    """Makes the parameters' mesh current, in this thread, for what runs inside."""
    return jax.set_mesh(self.mesh) if self.mesh is not None else contextlib.nullcontext()

  def idle_state(self) -> State:
    """A new state with idle slots."""
    rows, length = self.sizes.first_state()
    make = jax.jit(programs.idle_state, static_argnums=(0, 1, 2, 3))
    with self.on_mesh():
      return self._bound(make(self.config, rows, length, self.kv_dtype))

  def _bound(self, tree: T) -> T:
    return tree if isinstance(self.place, jax.sharding.Mesh) else jax.device_put(tree, self.place)

  def prefill(self, prompts: Sequence[Prompt]) -> list[Prefix]:
    """One prefix per prompt, in order; what the prefix cache holds is not computed again.

    Each piece is waited for, so that another thread's decode call finds at most one before it in the device's queue,
    and a failure shows here.
    """
    firsts = self._first_pieces(prompts)
    return [Prefix(prompt, self._later_pieces(prompt, first)) for prompt, first in zip(prompts, firsts, strict=True)]

  def score(self, tokens: Sequence[int]) -> Scores:
    """What the model predicts behind each of the tokens, of which there are at most `max_length`."""
    padded = np.zeros(bucket_for(self.sizes.scored, len(tokens)), np.int32)
    padded[: len(tokens)] = tokens
    with self.on_mesh():
      found = jax.device_get(self.programs.score(self.params, padded))
    return Scores(*(array[: len(tokens)] for array in found))

  def prefill_each(self, prompts: Sequence[Prompt]) -> list[Prefix | Exception]:
    """`prefill`, with a failure as the result of the prompt at fault: those that fail together are tried one by one."""
    try:
      return list(self.prefill(prompts))
    except Exception as error:
      if len(prompts) == 1:
        return [error]
      return [prefix for prompt in prompts for prefix in self.prefill_each([prompt])]

  def _first_pieces(self, prompts: Sequence[Prompt]) -> list[Piece]:
    """The first piece of each prompt; those of one bucket share a pass where that is of use."""
    found: dict[bytes, Piece] = {}
    wanted: dict[bytes, tuple[int, ...]] = {}  # what the cache does not hold
    keys = []
    for prompt in prompts:
      tokens = prompt.tokens[:-1][: self.sizes.chunk]
      key = key_of(tokens)
      keys.append(key)
      if key in found or key in wanted:
        self.prefixes.shared(len(tokens))
      elif (piece := self.prefixes.find(key)) is not None:
        found[key] = piece
      else:
        wanted[key] = tokens
    by_bucket: dict[int, list[tuple[bytes, tuple[int, ...]]]] = {}
    for key, tokens in wanted.items():
      by_bucket.setdefault(bucket_for(self.sizes.prefill, len(tokens)), []).append((key, tokens))
    for length, missing in by_bucket.items():
      rows = self.sizes.rows_of(length)
      for start in range(0, len(missing), rows[-1]):
        batch = missing[start : start + rows[-1]]
        found |= self._prefill_batch(batch, (bucket_for(rows, len(batch)), length))
    return [found[key] for key in keys]

  def _prefill_batch(
    self, batch: Sequence[tuple[bytes, tuple[int, ...]]], shape: tuple[int, int]
  ) -> dict[bytes, Piece]:
    """First pieces, (key, tokens) each, in one pass of this (rows, bucket)."""
    padded = np.zeros(shape, np.int32)
    for row, (_, tokens) in enumerate(batch):
      padded[row, : len(tokens)] = tokens
    with self.on_mesh():
      kv = jax.block_until_ready(self.programs.prefill(self.params, padded))
    pieces = {key: Piece(kv, row, 0, len(tokens)) for row, (key, tokens) in enumerate(batch)}
    for key, piece in pieces.items():
      self.prefixes.add(key, piece)
    return pieces

  def _later_pieces(self, prompt: Prompt, first: Piece) -> list[Piece]:
    """All pieces of a prompt whose first is known."""
    pieces = [first]
    context: KVCache | None = None
    in_context = 0  # pieces that `context` holds
    for start, end in spans(len(prompt.tokens) - 1, self.sizes.chunk)[1:]:
      key = key_of(prompt.tokens[:end])
      piece = self.prefixes.find(key)
      if piece is None:
        room = bucket_for(self.sizes.context, start)
        with self.on_mesh():
          if context is None or jax.tree.leaves(context)[0].shape[1] < room:
            context, in_context = self._bound(self.programs.context(length=room)), 0
          for before in pieces[in_context:]:
            context = self.programs.gather(context, before.kv, np.int32(before.row), np.int32(before.start))
          in_context = len(pieces)
          padded = np.zeros((1, bucket_for(self.sizes.later, end - start)), np.int32)
          padded[0, : end - start] = prompt.tokens[start:end]
          kv = jax.block_until_ready(self.programs.extend(self.params, padded, context, np.int32(start)))
        piece = Piece(kv, 0, start, end - start)
        self.prefixes.add(key, piece)
      pieces.append(piece)
    return pieces
