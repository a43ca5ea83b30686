"""The tiny model and its tokenizer, and one server for the whole folder."""

import pytest

from skymath_jax.models import Decoder
from skymath_jax.server import serve as server_lib
from tests.support.serving import MAX_LENGTH, ByteTokenizer, make_decoder


@pytest.fixture(scope="session")
def decoder() -> Decoder:
  return make_decoder(0)


@pytest.fixture(scope="session")
def tokenizer() -> ByteTokenizer:
  return ByteTokenizer()


@pytest.fixture(scope="session")
def server(decoder, tokenizer):
  """A server with few slots and a short queue."""
  running = server_lib.start(
    decoder,
    tokenizer,
    "tiny@0",
    port=0,
    slots=4,
    max_length=MAX_LENGTH,
    steps_per_call=4,
    queue_size=6,
    chat_frame="raw",
  )
  yield running
  running.stop()
