"""The decoder as compiled programs (prefill, extend, insert, generate) over slots; `slots` keeps the books.

A slot holds one sequence: its keys and values, the token to be fed next, how many tokens it may still make, and its
sampling settings. `generate` runs several decode steps a call, for all slots at once. Prefill covers all prompt tokens
but the last; the last is fed by the first decode step, so that every new token is sampled in one place. Long prompts
are prefilled in pieces (`prefix`), so that a running stream waits for one piece at most.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp

from skymath_jax.engine import quantize
from skymath_jax.engine import sampling as sampling_lib
from skymath_jax.engine.prefix import Piece, PrefixCache, key_of, spans
from skymath_jax.engine.state import KV_AXES, State, idle_state, kv_placed, placed, places_of, with_places
from skymath_jax.errors import UserError
from skymath_jax.generation import RequestRejected, Sampling
from skymath_jax.models import Decoder, DecoderConfig, attention, cache
from skymath_jax.models.cache import KVCache
from skymath_jax.sharding import named

Params: TypeAlias = Any
LEAST_PREFILL, LEAST_CACHE = 32, 128  # tokens; smaller buckets would save less than they cost to compile
PREFILL_TOKENS = 2048  # most tokens of one prefill of several prompts
LEAST_KEPT = 4096  # tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How a model is served.

  Args:
    slots: sequences decoded at once.
    max_length: prompt and response tokens a slot can hold; cut to the positions that the model knows.
    steps_per_call: decode steps per host call.
    prefill_chunk: prompt tokens run at once; longer prompts go in pieces of this size, which the prefix cache keeps.
    prefix_tokens: prompt tokens whose keys and values the prefix cache keeps; None is `kept(max_length)`, 0 none.
    weights: "as stored", or "int8" (matrices in 8 bits with a scale per output channel).
    kv: "as computed", or "int8" (keys and values in 8 bits with a scale per token and head).

  Raises:
    UserError: a value with which nothing can be served.
  """

  slots: int = 64
  max_length: int = 2048
  steps_per_call: int = 8
  prefill_chunk: int = 256
  prefix_tokens: int | None = None
  weights: str = "as stored"
  kv: str = "as computed"

  def __post_init__(self):
    least = {"slots": 1, "max_length": 2, "steps_per_call": 1, "prefill_chunk": 1, "prefix_tokens": 0}
    for name, fewest in least.items():
      value = getattr(self, name)
      if value is not None and value < fewest:
        raise UserError(f"{value} is too small", where=name, remedy=f"give {fewest} or more")
    for name, known in {"weights": ("as stored", "int8"), "kv": ("as computed", "int8")}.items():
      if getattr(self, name) not in known:
        raise UserError(f"{getattr(self, name)!r} is not known", where=name, remedy=f"use one of: {', '.join(known)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
  """One prompt and how to continue it; the fields after `tokens` are those of `generation.Sampling`."""

  tokens: tuple[int, ...]
  max_tokens: int
  temperature: float = 0.0
  top_p: float = 1.0
  top_k: int = 0
  seed: int = 0

  @property
  def mode(self) -> int:
    """The cheapest way to sample it."""
    if self.temperature == 0:
      return sampling_lib.GREEDY
    return sampling_lib.PLAIN if self.top_p >= 1 and self.top_k == 0 else sampling_lib.FILTERED


def checked_prompt(tokens: Sequence[int], sampling: Sampling, *, max_length: int, vocab_size: int) -> Prompt:
  """A prompt that is safe to serve; `max_tokens` is cut to what a slot of `max_length` has room for.

  Raises:
    RequestRejected: no tokens, a token that the vocabulary does not have, or no room for even one new token.
  """
  if not tokens:
    raise RequestRejected("the prompt is empty", where="prompt", remedy="give at least one token")
  if len(tokens) >= max_length:
    raise RequestRejected(
      f"the prompt has {len(tokens)} tokens, but prompt and response share {max_length}",
      where="prompt",
      remedy="shorten it, or serve with a larger max_length",
    )
  if not 0 <= min(tokens) <= max(tokens) < vocab_size:
    raise RequestRejected(
      "a token is outside the vocabulary", where="prompt", remedy=f"ids go from 0 to {vocab_size - 1}"
    )
  return Prompt(
    tokens=tuple(tokens),
    max_tokens=min(sampling.max_tokens, max_length - len(tokens)),
    temperature=sampling.temperature,
    top_p=sampling.top_p,
    top_k=sampling.top_k,
    seed=sampling.seed,
  )


@dataclasses.dataclass(frozen=True, eq=False)
class Prefix:
  """A prefilled prompt. Not a pytree, so that JetStream does not delete it after one insert."""

  prompt: Prompt
  pieces: list[Piece]


def kept(max_length: int) -> int:
  """Prompt tokens whose keys and values lie beside the slots: so many in the prefix cache, so many waiting for one."""
  return max(LEAST_KEPT, 2 * max_length)


def buckets(least: int, most: int, *, halves: bool) -> tuple[int, ...]:
  """Powers of two from `least`, below `most`, and `most` itself; `halves` adds 3/2 of each, which wastes less."""
  powers = itertools.takewhile(lambda n: n < most, (least << i for i in itertools.count()))
  sizes = sorted({size for n in powers for size in ((n, n + n // 2) if halves else (n,)) if size < most})
  return (*sizes, most)


class Programs:
  """The jitted functions of one model shape; parameters are arguments."""

  def __init__(self, config: DecoderConfig, steps: int):
    self.graph = nnx.split(nnx.eval_shape(lambda: Decoder(config)))[0]
    self.config, self.steps = config, steps
    self.prefill = jax.jit(self._prefill)
    self.extend = jax.jit(self._extend)
    self.insert = jax.jit(self._insert, donate_argnums=0)
    self.context = jax.jit(self._context, static_argnames="length")
    self.gather = jax.jit(self._gather, donate_argnums=0)
    self.resize = jax.jit(self._resize, static_argnames="length")
    self.generate = jax.jit(self._generate, static_argnames="length", donate_argnums=1)

  def decoder(self, params: Params) -> Decoder:
    """The model; int8 weights become matrices of the compute dtype here, which XLA fuses into their use."""
    return nnx.merge(self.graph, quantize.widened(params, self.config.dtype))

  def _prefill(self, params: Params, tokens: jax.Array) -> KVCache:
    """Keys and values of `tokens` `[batch length]`; padding at the end is harmless under causal attention."""
    return kv_placed(self.decoder(params).prefill(tokens))

  def _extend(self, params: Params, tokens: jax.Array, context: KVCache, start: jax.Array) -> KVCache:
    """Keys and values of `tokens` `[1 length]`, of which `start` come before: the first that many of `context`."""
    return kv_placed(self.decoder(params).extend(tokens, context, start))

  def _context(self, *, length: int) -> KVCache:
    """Room for the keys and values of `length` tokens of one prompt."""
    shape, config = (1, length, self.config.kv_heads, self.config.head_dim), self.config
    return kv_placed(
      tuple((jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype)) for _ in range(config.layers))
    )

  def _gather(self, context: KVCache, kv: KVCache, row: jax.Array, start: jax.Array) -> KVCache:
    """`context` `[1 length kv_heads head_dim]` with row `row` of `kv` at `start`."""

    def put(held: jax.Array, new: jax.Array) -> jax.Array:
      one = jax.lax.dynamic_index_in_dim(new, row, 0, keepdims=True)
      return jax.lax.dynamic_update_slice(held, one.astype(held.dtype), (0, start, 0, 0))

    return kv_placed(jax.tree.map(put, context, kv))

  def _insert(
    self, state: State, kv: KVCache, row: jax.Array, slot: jax.Array, start: jax.Array, values: dict[str, jax.Array]
  ) -> State:
    """Fills `slot` from position `start`; `values` holds the new entries of the other fields of the state."""
    fields = {name: getattr(state, name).at[slot].set(value) for name, value in values.items()}
    return placed(state._replace(cache=cache.insert(state.cache, kv, slot, row=row, start=start), **fields))

  def _resize(self, state: State, *, length: int) -> State:
    """The state with a cache of `length` positions a slot."""

    def fit(x: jax.Array) -> jax.Array:
      more = max(0, length - x.shape[2])
      return jnp.pad(x, ((0, 0), (0, 0), (0, more), (0, 0)))[:, :, :length]

    return placed(state._replace(cache=jax.tree.map(fit, state.cache)))

  def _generate(
    self, params: Params, state: State, mode: jax.Array, stop_ids: jax.Array, *, length: int
  ) -> tuple[State, jax.Array]:
    """`steps` tokens per slot: the new state and int32 `[slots 2 × steps + 1]`: tokens, validity, tokens so far.

    A stop id is not valid, nor is anything after it or past the slot's share of tokens; all live positions must stay
    below `length`.
    """

    def step(state: State, _: None) -> tuple[State, tuple[jax.Array, jax.Array]]:
      weights, fed = quantize.kept_narrow(params, state.tokens)
      live = state.remaining > 0
      # an idle slot looks at one position and writes to its own start, which is rewritten
      positions = jnp.where(live, state.positions, 0)
      logits, kv = self.decoder(weights).decode(fed, state.cache, positions, length=length)
      settings = (state.keys, state.generated, state.temperature, state.top_p, state.top_k)
      tokens = sampling_lib.sample(logits, *settings, mode)
      valid = live & ~jnp.isin(tokens, stop_ids)
      state = state._replace(
        cache=kv,
        tokens=jnp.where(live, tokens, state.tokens),
        positions=positions + live,
        remaining=jnp.where(valid, state.remaining - 1, 0),
        generated=state.generated + valid,
      )
      return state, (tokens, valid)

    state, (tokens, valid) = jax.lax.scan(step, state, None, length=self.steps)
    rows = jnp.concatenate([tokens.T, valid.T.astype(jnp.int32), state.generated[:, None]], axis=1)
    return placed(state), rows


programs = functools.lru_cache(maxsize=16)(Programs)  # models of one shape share what is compiled


class Core:
  """One decoder made ready for serving: its parameters, one array per layer, and its programs.

  Args:
    decoder: any decoder; load it with the dtype it is to be served in.
    settings: slots, lengths, number formats.
    stop_ids: tokens that end a response.
  """

  def __init__(self, decoder: Decoder, settings: Settings, *, stop_ids: tuple[int, ...] = ()):
    params = nnx.state(decoder.unstacked(), nnx.Param)
    where = jax.tree.leaves(params)[0].sharding
    self.mesh = where.mesh if isinstance(where, jax.sharding.NamedSharding) and where.mesh.size > 1 else None
    # JAX compiles once more for arrays that are bound to their device: here all are, from the first call on
    self.device = None if self.mesh is not None else jax.sharding.SingleDeviceSharding(next(iter(where.device_set)))
    params = params if self.device is None else jax.device_put(params, self.device)
    self.params = quantize.narrowed(params) if settings.weights == "int8" else params
    self.config = dataclasses.replace(decoder.config, scan_layers=False)
    self.kv_dtype = "int8" if settings.kv == "int8" else self.config.dtype
    self.slots, self.steps = settings.slots, settings.steps_per_call
    self.max_length = max_length = min(settings.max_length, decoder.config.max_positions)
    self.chunk = chunk = settings.prefill_chunk
    capacity = max_length if max_length <= chunk else -(-max_length // chunk) * chunk  # whole pieces, padding too
    self.stop_ids = np.array(stop_ids or (-1,), np.int32)  # -1 is no token
    # On a CPU reading part of a cache copies that part at every step: the cache itself follows the live lengths there,
    # buckets are finer (arithmetic is what costs) and prompts gain nothing from being prefilled together.
    self.elastic = jax.default_backend() == "cpu" and not attention.uses_flat_cache(self.config)
    self.prefill_buckets = buckets(LEAST_PREFILL, min(chunk, capacity), halves=self.elastic)
    self.cache_buckets = buckets(LEAST_CACHE, capacity, halves=self.elastic)
    self.context_buckets = buckets(chunk, capacity, halves=False) if capacity > chunk else ()
    self.later_buckets = sorted({fitting(self.prefill_buckets, chunk // 4), chunk}) if capacity > chunk else ()
    self.prefill_rows = 1 if self.elastic else 16
    self.programs = programs(self.config, self.steps)
    self.prefixes = PrefixCache(kept(max_length) if settings.prefix_tokens is None else settings.prefix_tokens)

  def rows_of(self, length: int) -> list[int]:
    """The numbers of rows that prefills of this bucket come in."""
    return sorted({1, max(1, min(self.prefill_rows, PREFILL_TOKENS // length))})

  def prefill_shapes(self) -> list[tuple[int, int]]:
    """(rows, bucket) of every prefill of first pieces."""
    return [(rows, length) for length in self.prefill_buckets for rows in self.rows_of(length)]

  def piece_shapes(self) -> list[tuple[int, int]]:
    """(rows, bucket) of every piece that can be inserted."""
    return sorted({*self.prefill_shapes(), *((1, length) for length in self.later_buckets)})

  def on_mesh(self) -> contextlib.AbstractContextManager:
    """Makes the parameters' mesh current, in this thread, for what runs inside."""
    return jax.set_mesh(self.mesh) if self.mesh is not None else contextlib.nullcontext()

  def empty(self) -> State:
    """A state with idle slots."""
    length = self.cache_buckets[0] if self.elastic else self.cache_buckets[-1]
    with self.on_mesh():
      return self._bound(
        jax.jit(idle_state, static_argnums=(0, 1, 2, 3))(self.config, self.slots, length, self.kv_dtype)
      )

  def _bound(self, tree: Any) -> Any:
    return tree if self.device is None else jax.device_put(tree, self.device)

  def abstract_state(self, length: int) -> State:
    """`empty` as shapes and places, with a cache of `length` positions."""
    with self.on_mesh():
      like = jax.eval_shape(lambda: idle_state(self.config, self.slots, length, self.kv_dtype))
    if self.mesh is None:
      return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.device), like)
    return with_places(like, places_of(like, self.mesh))

  def abstract_kv(self, rows: int, length: int) -> KVCache:
    """What prefill gives, as shapes and places."""
    shape = (rows, length, self.config.kv_heads, self.config.head_dim)
    where = self.device if self.mesh is None else named(self.mesh, *KV_AXES, shape=shape)
    one = jax.ShapeDtypeStruct(shape, self.config.dtype, sharding=where)
    return tuple((one, one) for _ in range(self.config.layers))

  def prefill(self, params: Params, prompts: Sequence[Prompt]) -> list[Prefix]:
    """One prefix per prompt, in order; what the prefix cache holds is not computed again.

    Each piece is waited for, so that another thread's decode call finds at most one before it in the device's queue,
    and a failure shows here.
    """
    firsts = self._first_pieces(params, prompts)
    return [
      Prefix(prompt, self._later_pieces(params, prompt, first)) for prompt, first in zip(prompts, firsts, strict=True)
    ]

  def prefill_each(self, params: Params, prompts: Sequence[Prompt]) -> list[Prefix | Exception]:
    """`prefill`, with a failure as the result of the prompt at fault: those that fail together are tried one by one."""
    try:
      return list(self.prefill(params, prompts))
    except Exception as error:
      if len(prompts) == 1:
        return [error]
      return [prefix for prompt in prompts for prefix in self.prefill_each(params, [prompt])]

  def _first_pieces(self, params: Params, prompts: Sequence[Prompt]) -> list[Piece]:
    """The first piece of each prompt; those of one bucket share a pass where that is of use."""
    found: dict[bytes, Piece | None] = {}
    by_bucket: dict[int, list[tuple[bytes, tuple[int, ...]]]] = {}
    keys = []
    for prompt in prompts:
      tokens = prompt.tokens[:-1][: self.chunk]
      keys.append(key_of(tokens))
      if keys[-1] in found:
        self.prefixes.shared(len(tokens))
      else:
        found[keys[-1]] = self.prefixes.find(keys[-1])
        if found[keys[-1]] is None:
          by_bucket.setdefault(fitting(self.prefill_buckets, len(tokens)), []).append((keys[-1], tokens))
    for length, missing in by_bucket.items():
      fewest, *_, most = self.rows_of(length) * 2
      for batch in _batches(missing, most):
        rows = fewest if len(batch) == 1 else most  # few shapes, few compilations
        padded = np.zeros((rows, length), np.int32)
        for row, (_, tokens) in enumerate(batch):
          padded[row, : len(tokens)] = tokens
        with self.on_mesh():
          kv = jax.block_until_ready(self.programs.prefill(params, padded))
        for row, (key, tokens) in enumerate(batch):
          found[key] = Piece(kv, row, 0, len(tokens))
          self.prefixes.add(key, found[key])
    return [found[key] for key in keys]

  def _later_pieces(self, params: Params, prompt: Prompt, first: Piece) -> list[Piece]:
    """All pieces of a prompt whose first is known."""
    pieces, context, in_context = [first], None, 0
    for start, end in spans(len(prompt.tokens) - 1, self.chunk)[1:]:
      key = key_of(prompt.tokens[:end])
      piece = self.prefixes.find(key)
      if piece is None:
        room = fitting(self.context_buckets, start)
        with self.on_mesh():
          if context is None or jax.tree.leaves(context)[0].shape[1] < room:
            context, in_context = self._bound(self.programs.context(length=room)), 0
          for before in pieces[in_context:]:
            context = self.programs.gather(context, before.kv, np.int32(before.row), np.int32(before.start))
          in_context = len(pieces)
          padded = np.zeros((1, fitting(self.later_buckets, end - start)), np.int32)
          padded[0, : end - start] = prompt.tokens[start:end]
          kv = jax.block_until_ready(self.programs.extend(params, padded, context, np.int32(start)))
        piece = Piece(kv, 0, start, end - start)
        self.prefixes.add(key, piece)
      pieces.append(piece)
    return pieces


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
  return (items[start : start + size] for start in range(0, len(items), size))


def fitting(sizes: Sequence[int], length: int) -> int:
  """The smallest of the ascending `sizes` that is at least `length`; ValueError if there is none."""
  for size in sizes:
    if size >= length:
      return size
  raise ValueError(f"{length} tokens are more than the {sizes[-1]} that fit")
