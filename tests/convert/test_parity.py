"""The comparison itself: a difference anywhere is found, and one pass judges greedy text as writing it would."""

import numpy as np
import pytest

from skymath_jax.convert import parity

VOCAB = 11


def model(shift=0.0, nan_at=None):
  """Logits that depend on all tokens so far, as a causal model's do."""

  def logits(tokens):
    mixed = np.cumsum(tokens * np.arange(1, tokens.shape[1] + 1), axis=1)[:, :, None]
    found = np.sin(mixed * np.arange(1, VOCAB + 1)) + shift * (np.arange(VOCAB) == 3)
    if nan_at is not None:
      found[tokens == nan_at] = np.nan
    return found.astype(np.float32)

  return logits


PROMPTS = [[n % VOCAB for n in range(start, start + length)] for start, length in enumerate((3, 40, 1, 9, 5, 33))]


@pytest.mark.parametrize("shift", [0.0, 1e-3, 0.7, 3.0])
def test_one_pass_judges_greedy_text_as_writing_it_does(shift):
  ours, other = model(), model(shift)
  texts = parity.greedy(ours, PROMPTS, 12)
  same = texts == parity.greedy(other, PROMPTS, 12)
  assert parity.would_write(other, PROMPTS, texts) == same == (shift < 0.1)


def test_the_last_token_of_the_last_text_counts():
  texts = parity.greedy(model(), PROMPTS, 4)
  texts[-1][-1] = (texts[-1][-1] + 1) % VOCAB
  assert not parity.would_write(model(), PROMPTS, texts)


def test_differences_are_the_largest_of_all_tokens_and_nan_is_one():
  def apart(other):
    return parity.difference(zip(parity.live(model(), PROMPTS), parity.live(other, PROMPTS), strict=True))

  assert apart(model())["max_abs_logit_diff"] == 0
  assert apart(model(0.5))["max_abs_logit_diff"] == pytest.approx(0.5, abs=1e-6)
  assert np.isnan(apart(model(nan_at=10))["max_abs_logit_diff"])  # a token of two prompts alone
