"""The tiny model and its tokenizer, and one server for the whole folder."""

import pytest

from skymath_jax.models import Decoder
from skymath_jax.testing.tokenizers import ByteTokenizer
from tests.support.serving import make_decoder, start_server


@pytest.fixture(scope="session")
def decoder() -> Decoder:
  return make_decoder(0)


@pytest.fixture(scope="session")
def tokenizer() -> ByteTokenizer:
  return ByteTokenizer()


@pytest.fixture(scope="session")
def server(decoder, tokenizer):
  """A server with few slots and a short queue."""
  running = start_server(decoder, tokenizer, queue_size=6)
  yield running
  running.stop()
