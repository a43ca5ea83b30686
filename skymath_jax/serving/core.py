"""The decoder as three compiled programs (prefill, insert, generate) over slots, and what the host knows of each slot.

A slot holds one sequence: its keys and values, the token to be fed next, how many tokens it may still make, and its
sampling settings. `generate` runs several decode steps a call, for all slots at once. Prefill covers all prompt tokens
but the last; the last is fed by the first decode step, so that every new token is sampled in one place. Example::

  core = Core(decoder, slots=64, max_length=1024, steps_per_call=8, stop_ids=(2,))
  table = SlotTable(core)
  [prefix] = core.prefill(core.params, [Prompt(tokens=(1, 5, 9), max_tokens=100)])
  table.insert(prefix, slot=0)
  rows = np.asarray(table.generate(core.params))  # [slots 2 × steps + 1]
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp

from skymath_jax.generation import RequestRejected, Sampling
from skymath_jax.models import Decoder, DecoderConfig, cache
from skymath_jax.models.cache import KVCache
from skymath_jax.serving import sampling as sampling_lib

Params: TypeAlias = Any
LEAST_PREFILL, LEAST_CACHE = 32, 128  # tokens; smaller buckets would save less than they cost to compile
PREFILL_TOKENS = 2048  # most tokens of one prefill of several prompts


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


class Prefix:
  """Row `row` of prefilled keys and values. Not a pytree, so that JetStream does not delete it after one insert."""

  def __init__(self, prompt: Prompt, kv: KVCache, row: int):
    self.prompt, self.kv, self.row = prompt, kv, row


class State(NamedTuple):
  """What lives on the device. Arrays are `[slots]` but for `cache` and `keys` `[slots 2]`; `remaining` 0 is idle."""

  cache: KVCache
  tokens: jax.Array
  positions: jax.Array
  remaining: jax.Array
  generated: jax.Array
  keys: jax.Array
  temperature: jax.Array
  top_p: jax.Array
  top_k: jax.Array


def buckets(least: int, most: int, *, halves: bool) -> tuple[int, ...]:
  """Powers of two from `least`, below `most`, and `most` itself; `halves` adds 3/2 of each, which wastes less."""
  powers = itertools.takewhile(lambda n: n < most, (least << i for i in itertools.count()))
  sizes = sorted({size for n in powers for size in ((n, n + n // 2) if halves else (n,)) if size < most})
  return (*sizes, most)


class Programs:
  """The jitted functions of one model shape; parameters are arguments."""

  def __init__(self, config: DecoderConfig, steps: int):
    self.graph = nnx.split(nnx.eval_shape(lambda: Decoder(config)))[0]
    self.steps = steps
    self.prefill = jax.jit(self._prefill)
    self.insert = jax.jit(self._insert, donate_argnums=0)
    self.resize = jax.jit(self._resize, static_argnames="length")
    self.generate = jax.jit(self._generate, static_argnames="length", donate_argnums=1)

  def _prefill(self, params: Params, tokens: jax.Array) -> KVCache:
    """Keys and values of `tokens` `[batch length]`; padding at the end is harmless under causal attention."""
    return nnx.merge(self.graph, params).prefill(tokens)

  def _insert(self, state: State, kv: KVCache, row: jax.Array, slot: jax.Array, values: dict[str, jax.Array]) -> State:
    """Fills `slot`; `values` holds the new entries of the other fields of the state."""
    fields = {name: getattr(state, name).at[slot].set(value) for name, value in values.items()}
    return state._replace(cache=cache.insert(state.cache, kv, slot, row=row), **fields)

  def _resize(self, state: State, *, length: int) -> State:
    """The state with a cache of `length` positions a slot."""

    def fit(x: jax.Array) -> jax.Array:
      more = max(0, length - x.shape[2])
      return jnp.pad(x, ((0, 0), (0, 0), (0, more), (0, 0)))[:, :, :length]

    return state._replace(cache=jax.tree.map(fit, state.cache))

  def _generate(
    self, params: Params, state: State, mode: jax.Array, stop_ids: jax.Array, *, length: int
  ) -> tuple[State, jax.Array]:
    """`steps` tokens per slot: the new state and int32 `[slots 2 × steps + 1]`: tokens, validity, tokens so far.

    A stop id is not valid, nor is anything after it or past the slot's share of tokens; all live positions must stay
    below `length`.
    """
    decoder = nnx.merge(self.graph, params)

    def step(state: State, _: None) -> tuple[State, tuple[jax.Array, jax.Array]]:
      logits, kv = decoder.decode(state.tokens, state.cache, state.positions, length=length)
      settings = (state.keys, state.generated, state.temperature, state.top_p, state.top_k)
      tokens = sampling_lib.sample(logits, *settings, mode)
      live = state.remaining > 0
      valid = live & ~jnp.isin(tokens, stop_ids)
      state = state._replace(
        cache=kv,
        tokens=jnp.where(live, tokens, state.tokens),
        positions=jnp.where(live, state.positions + 1, 0),  # an idle slot writes to its own start, which is rewritten
        remaining=jnp.where(valid, state.remaining - 1, 0),
        generated=state.generated + valid,
      )
      return state, (tokens, valid)

    state, (tokens, valid) = jax.lax.scan(step, state, None, length=self.steps)
    rows = jnp.concatenate([tokens.T, valid.T.astype(jnp.int32), state.generated[:, None]], axis=1)
    return state, rows


programs = functools.lru_cache(maxsize=16)(Programs)  # models of one shape share what is compiled


class Core:
  """One decoder made ready for serving: its parameters, one array per layer, and its programs.

  Args:
    decoder: any decoder; load it with the dtype it is to be served in.
    slots: sequences decoded at once.
    max_length: prompt and response tokens a slot can hold; cut to the positions that the model knows.
    steps_per_call: decode steps per host call.
    stop_ids: tokens that end a response.
  """

  def __init__(
    self, decoder: Decoder, *, slots: int, max_length: int, steps_per_call: int = 8, stop_ids: tuple[int, ...] = ()
  ):
    self.params = nnx.state(decoder.unstacked(), nnx.Param)
    self.config = dataclasses.replace(decoder.config, scan_layers=False)
    max_length = min(max_length, decoder.config.max_positions)
    self.slots, self.max_length, self.steps = slots, max_length, steps_per_call
    self.stop_ids = np.array(stop_ids or (-1,), np.int32)  # -1 is no token
    # On a CPU reading part of a cache copies that part at every step: the cache itself follows the live lengths there,
    # buckets are finer (arithmetic is what costs) and prompts gain nothing from being prefilled together.
    self.elastic = jax.default_backend() == "cpu"
    self.prefill_buckets = buckets(LEAST_PREFILL, max_length, halves=self.elastic)
    self.cache_buckets = buckets(LEAST_CACHE, max_length, halves=self.elastic)
    self.prefill_rows = 1 if self.elastic else 16
    self.programs = programs(self.config, steps_per_call)
    sharding = jax.tree.leaves(self.params)[0].sharding
    self.mesh = sharding.mesh if isinstance(sharding, jax.sharding.NamedSharding) and sharding.mesh.size > 1 else None

  def rows_of(self, length: int) -> list[int]:
    """The numbers of rows that prefills of this bucket come in."""
    return sorted({1, max(1, min(self.prefill_rows, PREFILL_TOKENS // length))})

  def on_mesh(self) -> contextlib.AbstractContextManager:
    """Makes the parameters' mesh current, in this thread, for what runs inside."""
    return jax.set_mesh(self.mesh) if self.mesh is not None else contextlib.nullcontext()

  def empty(self) -> State:
    """A state with idle slots."""
    S = self.slots
    length = self.cache_buckets[0] if self.elastic else self.max_length
    with self.on_mesh():
      held = jax.jit(lambda: cache.init(self.config, S, length))()
    zeros = [jnp.zeros((S,), jnp.int32) for _ in range(4)]  # separate arrays: each is donated
    keys, temperature = jnp.zeros((S, 2), jnp.uint32), jnp.zeros((S,), jnp.float32)
    return State(held, *zeros, keys, temperature, jnp.ones((S,), jnp.float32), jnp.zeros((S,), jnp.int32))

  def prefill(self, params: Params, prompts: Sequence[Prompt]) -> list[Prefix]:
    """One prefix per prompt, in order; prompts of one bucket share a pass where that is of use."""
    by_bucket: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
      by_bucket.setdefault(fitting(self.prefill_buckets, len(prompt.tokens) - 1), []).append(i)
    found: dict[int, Prefix] = {}
    for length, members in by_bucket.items():
      fewest, *_, most = self.rows_of(length) * 2
      for chunk in _chunks(members, most):
        rows = fewest if len(chunk) == 1 else most  # few shapes, few compilations
        tokens = np.zeros((rows, length), np.int32)
        for row, i in enumerate(chunk):
          tokens[row, : len(prompts[i].tokens) - 1] = prompts[i].tokens[:-1]
        with self.on_mesh():
          kv = self.programs.prefill(params, tokens)
        found |= {i: Prefix(prompts[i], kv, row) for row, i in enumerate(chunk)}
    return [found[i] for i in range(len(prompts))]


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
  return (items[start : start + size] for start in range(0, len(items), size))


def fitting(sizes: Sequence[int], length: int) -> int:
  """The smallest of the ascending `sizes` that is at least `length`; ValueError if there is none."""
  for size in sizes:
    if size >= length:
      return size
  raise ValueError(f"{length} tokens are more than the {sizes[-1]} that fit")


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

  def insert(self, prefix: Prefix, slot: int) -> None:
    """Gives `slot` to a prefilled prompt; whatever the slot held is forgotten."""
    prompt, core = prefix.prompt, self.core
    values = self.values_of(prompt, core.max_length)
    start, most = int(values["positions"]), int(values["remaining"])
    self.hold(prefix.kv[0][0].shape[1])
    with core.on_mesh():
      self.state = core.programs.insert(self.state, prefix.kv, np.int32(prefix.row), np.int32(slot), values)
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
    held = self.state.cache[0][0].shape[2]
    length = fitting(self.core.cache_buckets, length)
    if self.core.elastic and (length > held or (shrink and 2 * length <= held)):
      self.state = self.core.programs.resize(self.state, length=length)


def warm_up(core: Core) -> None:
  """Compiles what serving can ask for, several programs at once and without running any of them.

  Left out are inserts and changes of length of an elastic cache at all pairs of sizes: small programs that take a tenth
  of a second when they are first needed.
  """
  programs, slots = core.programs, core.slots
  state = jax.eval_shape(core.empty)
  value = SlotTable.values_of(Prompt(tokens=(0,), max_tokens=1), core.max_length)
  wanted = []

  def state_of(length: int) -> State:
    shape = (slots, core.config.kv_heads, length, core.config.head_dim)
    resized = jax.tree.map(lambda x: jax.ShapeDtypeStruct(shape, x.dtype), state.cache)
    return state._replace(cache=resized)

  for length in core.cache_buckets:
    held = state_of(length if core.elastic else core.max_length)
    wanted.append(
      lambda held=held, length=length: programs.generate.lower(
        core.params, held, np.int32(0), core.stop_ids, length=length
      )
    )
  for length in core.prefill_buckets:
    for rows in core.rows_of(length):
      tokens = jax.ShapeDtypeStruct((rows, length), np.int32)
      kv = jax.eval_shape(programs.prefill, core.params, tokens)
      held = state_of(fitting(core.cache_buckets, length) if core.elastic else core.max_length)
      wanted.append(lambda tokens=tokens: programs.prefill.lower(core.params, tokens))
      wanted.append(lambda held=held, kv=kv: programs.insert.lower(held, kv, np.int32(0), np.int32(0), value))

  def compile_one(lower: Callable[[], Any]) -> None:
    with core.on_mesh():
      lower().compile()

  with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
    for _ in pool.map(compile_one, wanted):
      pass
