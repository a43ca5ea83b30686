"""For engine and server: a tiny random model, servers over it, and a slow but obvious reference."""

import dataclasses
import functools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp

from skymath_jax.engine import sampling as sampling_lib
from skymath_jax.engine.engine import Engine
from skymath_jax.engine.generator import LocalGenerator
from skymath_jax.engine.slots import Slots
from skymath_jax.engine.types import EngineSettings
from skymath_jax.generation import Request, Sampling
from skymath_jax.models import Decoder, DecoderConfig
from skymath_jax.server import serve as server_lib
from skymath_jax.testing.tokenizers import ByteTokenizer

MAX_LENGTH = 64
CONFIG = DecoderConfig(
  vocab_size=ByteTokenizer.vocab_size,
  embed=32,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=8,
  mlp=64,
  max_positions=MAX_LENGTH,
)


@functools.partial(nnx.jit, static_argnums=0)  # eagerly it takes seconds
def make_decoder(seed: int) -> Decoder:
  """Random weights, large enough that greedy text is not one letter over and over."""
  decoder = Decoder(CONFIG, rngs=nnx.Rngs(seed))
  nnx.update(decoder, jax.tree.map(lambda w: w * 2.5 if w.ndim > 1 else w, nnx.state(decoder, nnx.Param)))
  return decoder


_forward = nnx.jit(lambda decoder, tokens: decoder(tokens))
_sample = jax.jit(sampling_lib.sample)


def reference_tokens(decoder: Decoder, prompt: list[int], s: Sampling, eos_id: int | None) -> list[int]:
  """One full forward pass for each token, no cache, no batch."""
  tokens, new = list(prompt), []
  key = np.array([[s.seed >> 32, s.seed & 0xFFFFFFFF]], np.uint32)
  mode = 0 if s.temperature == 0 else 1 if s.top_p == 1 and s.top_k == 0 else 2
  for index in range(min(s.max_tokens, MAX_LENGTH - len(prompt))):
    padded = np.zeros((1, MAX_LENGTH), np.int32)
    padded[0, : len(tokens)] = tokens
    logits = _forward(decoder, padded)[:, len(tokens) - 1]
    settings = (jnp.float32([s.temperature]), jnp.float32([s.top_p]), jnp.int32([s.top_k]), jnp.int32(mode))
    token = int(_sample(logits, key, jnp.int32([index]), *settings)[0])
    if token == eos_id:
      break
    tokens.append(token)
    new.append(token)
  return new


def requests(count: int, **sampling: object) -> list[Request]:
  """Ragged prompts and lengths, a third of them greedy unless told otherwise."""
  made = []
  for i in range(count):
    s = {
      "temperature": (0.0, 0.8, 1.3)[i % 3],
      "top_p": (1.0, 1.0, 0.8)[i % 3],
      "top_k": (0, 0, 20)[i % 3],
      "max_tokens": 1 + (7 * i) % 23,
      "seed": 1000 + i,
    }
    made.append(Request(id=str(i), prompt="abcdefgh"[: 1 + i % 8] * (1 + i % 5), sampling=Sampling(**(s | sampling))))
  return made


def by_id(responses: Iterable) -> dict[str, tuple]:
  """What must not differ between two ways of asking."""
  return {r.id: dataclasses.astuple(r) for r in responses}


def engine_settings(**changes: Any) -> EngineSettings:
  """Few slots and short calls, for the tiny model."""
  return EngineSettings(**{"slots": 4, "max_length": MAX_LENGTH, "steps_per_call": 4} | changes)


def local_generator(decoder: Decoder, tokenizer: Any, **changes: Any) -> LocalGenerator:
  """The engine in process, with such settings."""
  return LocalGenerator(decoder, tokenizer, "tiny@0", engine_settings(**changes))


def start_server(decoder: Decoder, tokenizer: Any, **changes: Any) -> server_lib.Server:
  """A server with such settings on free ports; `changes` are of engine and server."""
  defaults = {"slots": 4, "max_length": MAX_LENGTH, "steps_per_call": 4, "port": 0, "chat_frame": "raw"}
  return server_lib.start(decoder, tokenizer, "tiny@0", *server_lib.settings_of(**defaults | changes))


class SlowRows:
  """The result of a call that takes longer than it does."""

  def __init__(self, rows: Any, seconds: float):
    self.rows, self.seconds = rows, seconds

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    time.sleep(self.seconds)
    return np.asarray(self.rows)


class SlowSlots(Slots):
  """Slots whose calls take `seconds` longer, so that requests are still under way when something happens."""

  def __init__(self, engine: Engine, seconds: float):
    super().__init__(engine)
    self.seconds = seconds

  def generate(self) -> Any:
    return SlowRows(super().generate(), self.seconds)


def start_slow_server(decoder: Decoder, seconds: float, **changes: Any) -> server_lib.Server:
  """A server over `SlowSlots` whose streams do not end by themselves."""
  defaults = {"slots": 4, "max_length": MAX_LENGTH, "steps_per_call": 4, "port": 0, "queue_size": 8}
  shape, settings = server_lib.settings_of(**defaults | changes)
  engine = Engine(decoder, shape)
  return server_lib.start_engine(engine, SlowSlots(engine, seconds), ByteTokenizer(eos_id=None), "tiny@0", settings)


def http(server: server_lib.Server, path: str, body: Any = None) -> tuple[int, str]:
  """Status and text of one HTTP call; a body that is not bytes is sent as JSON."""
  data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
  call = urllib.request.Request(f"http://127.0.0.1:{server.http_port}{path}", data=data)
  try:
    with urllib.request.urlopen(call, timeout=60) as answer:
      return answer.status, answer.read().decode()
  except urllib.error.HTTPError as error:
    return error.code, error.read().decode()
