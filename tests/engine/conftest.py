"""The tiny model and its tokenizer."""

import pytest

from skymath_jax.models import Decoder
from skymath_jax.testing.tokenizers import ByteTokenizer
from tests.support.serving import make_decoder


@pytest.fixture(scope="session")
def decoder() -> Decoder:
  return make_decoder(0)


@pytest.fixture(scope="session")
def tokenizer() -> ByteTokenizer:
  return ByteTokenizer()
