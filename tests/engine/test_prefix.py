"""Prompts in pieces and the cache of pieces: what is saved, and that no token changes."""

import dataclasses
import random

import numpy as np
import pytest

from skymath_jax.engine.engine import Engine
from skymath_jax.engine.prefix import Piece, PrefixCache, spans
from skymath_jax.engine.types import Prompt
from skymath_jax.generation import Request, Sampling
from tests.support.serving import by_id, engine_settings, local_generator, requests

LONG = 192
HEADER = "".join(f"Q{i}: {i}+{i + 1}? A: {2 * i + 1}\n" for i in range(8))  # eight shots, 129 characters


@pytest.fixture(scope="module")
def long_decoder(decoder):
  return decoder.replace(max_positions=LONG)


def generator(decoder, tokenizer, **changes):
  return local_generator(decoder, tokenizer, **{"max_length": LONG, "prefill_chunk": 32} | changes)


def few_shot(count=12):
  return [dataclasses.replace(r, prompt=HEADER + r.prompt) for r in requests(count)]


@pytest.mark.parametrize("window", [None, 20])
def test_pieces_hold_what_one_pass_gives(long_decoder, window):
  decoder = long_decoder.replace(window=window)
  tokens = tuple(np.random.default_rng(0).integers(3, 259, 150).tolist())
  whole, pieces = (Engine(decoder, engine_settings(max_length=LONG, prefill_chunk=chunk)) for chunk in (LONG, 32))
  [expected] = whole.prefill([Prompt(tokens=tokens, max_tokens=1)])
  [found] = pieces.prefill([Prompt(tokens=tokens, max_tokens=1)])
  assert [(p.start, p.length) for p in found.pieces] == [(0, 32), (32, 32), (64, 32), (96, 32), (128, 21)]
  for layer in range(2):
    for part in range(2):
      joined = np.concatenate([np.asarray(p.kv[layer][part])[p.row, : p.length] for p in found.pieces])
      np.testing.assert_allclose(
        joined, np.asarray(expected.pieces[0].kv[layer][part])[0, :149], atol=5e-4, rtol=0
      )  # values up to 11


def test_prompts_that_share_a_pass_in_bfloat16_get_the_bits_they_get_alone(long_decoder):
  lengths = (*(30,) * 13, 5, 60, 61, 62, 90, 150)
  prompts = [
    Prompt(tokens=tuple(np.random.default_rng(i).integers(3, 259, length).tolist()), max_tokens=1)
    for i, length in enumerate(lengths)
  ]

  def found(*, together: bool) -> list[bytes]:
    engine = Engine(long_decoder.replace(dtype="bfloat16"), engine_settings(max_length=LONG, prefix_tokens=0))
    prefixes = engine.prefill(prompts) if together else [engine.prefill([prompt])[0] for prompt in prompts]
    shared = [prefix.pieces[0].kv[0][0].shape[0] for prefix in prefixes]
    assert set(shared) == ({1, 4, 16} if together else {1})  # of 14, 3, 1 and 1 in a bucket
    return [
      b"".join(np.asarray(part)[p.row, : p.length].tobytes() for p in prefix.pieces for kv in p.kv for part in kv)
      for prefix in prefixes
    ]

  assert found(together=True) == found(together=False)


def test_long_prompts_give_the_tokens_of_one_pass(long_decoder, tokenizer):
  asked = few_shot()
  expected = by_id(generator(long_decoder, tokenizer, prefill_chunk=LONG).generate_all(asked))
  assert by_id(generator(long_decoder, tokenizer).generate_all(asked)) == expected
  assert len({text for _, text, *_ in expected.values()}) > 6


def test_an_eight_shot_header_is_computed_once_and_no_token_changes(long_decoder, tokenizer):
  asked = few_shot()
  without = generator(long_decoder, tokenizer, prefix_tokens=0)
  expected = by_id(without.generate_all(asked))
  cached = generator(long_decoder, tokenizer)
  shuffled = random.Random(0).sample(asked, len(asked))
  assert by_id(cached.generate_all(shuffled)) == expected
  tokens = sum(len(tokenizer.encode(r.prompt, bos=True)) - 1 for r in asked)
  assert without.engine.prefixes.computed + without.engine.prefixes.reused == tokens
  assert cached.engine.prefixes.computed + cached.engine.prefixes.reused == tokens
  whole_pieces = len(HEADER) // 32 * 32
  assert cached.engine.prefixes.reused == 11 * whole_pieces > 0.6 * tokens  # all but the first time


@pytest.mark.parametrize("text", ["short", HEADER + "long"])
def test_n_samples_of_one_prompt_are_prefilled_once(long_decoder, tokenizer, text):
  one = generator(long_decoder, tokenizer)
  asked = [Request(id=str(i), prompt=text, sampling=Sampling(temperature=1.0, max_tokens=12, seed=i)) for i in range(9)]
  together = one.generate_all(asked)
  assert one.engine.prefixes.computed == len(text)  # bos is in front, the last token is fed by decode
  assert len({r.text for r in together}) > 6
  alone = [generator(long_decoder, tokenizer, prefix_tokens=0).generate_all([r])[0] for r in asked[:3]]
  assert alone == together[:3]


def test_a_full_cache_forgets_what_was_not_used_for_longest():
  def piece(rows=1):
    return Piece(((np.zeros((rows, 10, 1, 2)), np.zeros((rows, 10, 1, 2))),), 0, 0, 7)

  def held():
    return "".join(name for name in "abcdefg" if cache.find(name.encode()) is not None)

  cache = PrefixCache(budget=30)
  for name in (b"a", b"b", b"c"):
    cache.add(name, piece())
  assert cache.find(b"a")
  cache.add(b"d", piece())
  assert held() == "acd"
  batch = piece(rows=3)  # its rows share one array, which fills the budget: it is let go with the last of them
  for row, name in enumerate((b"e", b"f", b"g")):
    cache.add(name, dataclasses.replace(batch, row=row))
  assert held() == "efg"
  cache.add(b"a", piece())
  assert held() == "a"
  cache.add(b"b", piece(rows=4))  # larger than the whole budget
  assert held() == "a"


def test_spans_cover_everything():
  assert spans(0, 8) == [(0, 0)] and spans(8, 8) == [(0, 8)] and spans(17, 8) == [(0, 8), (8, 16), (16, 17)]
