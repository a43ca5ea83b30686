import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skymath_jax import prompts
from skymath_jax.chat import frames
from skymath_jax.errors import UserError
from skymath_jax.training.packing import Packing, Steps, iterate, pack
from tests.support import doubles
from tests.support.doubles import Characters, Rows, some_rows


def tokenize(rows, **changes):
  return doubles.tokenize(rows, Characters(), **{"template": "raw", "max_length": 64} | changes)


def make_steps(source, **changes):
  packing = {"max_length": 64, "rows": 4, "epochs": 2, "rng_seed": 3} | changes
  return Steps(tokenize(source), Packing(**packing))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=200))
@settings(max_examples=60)
def test_packing_uses_each_example_once_and_never_overfills(lengths):
  groups = pack(np.array(lengths), 40)
  assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
  assert max(sum(lengths[i] for i in group) for group in groups) <= 40


def test_realistic_lengths_fill_rows_to_95_percent():
  lengths = np.clip(np.random.default_rng(0).lognormal(5.0, 0.5, 5000).astype(int), 20, 512)  # GSM8K: mean 153, max 496
  packing = Packing(max_length=512, rows=8, epochs=1)
  rows = [row for step in packing.plan(lengths, 0) for row in step]
  assert lengths.sum() / (len(rows) * 512) > 0.95


def test_every_example_once_an_epoch_in_another_order():
  plan = make_steps(some_rows(50)).plan
  half = len(plan) // 2
  epochs = [[i for step in part for row in step for i in row] for part in (plan[:half], plan[half:])]
  assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(50))
  assert epochs[0] != epochs[1]


def test_order_is_a_function_of_the_rng_seed():
  a, b, c = (make_steps(some_rows(50), rng_seed=seed).plan for seed in (3, 3, 4))
  assert a == b != c


def test_steps_of_an_epoch_have_equally_many_rows_give_or_take_one():
  sizes = [len(step) for step in make_steps(some_rows(37), rows=4, epochs=1).plan]
  assert max(sizes) - min(sizes) <= 1


def test_prompt_and_padding_are_never_trained_response_and_eos_always_are():
  rows = some_rows(20)
  steps = make_steps(rows, epochs=1)
  found = []
  for step in range(len(steps)):
    batch = {key: value[0] for key, value in steps[step].items()}
    assert not batch["loss_weights"][batch["segment_ids"] == 0].any()
    for row, segments in enumerate(batch["segment_ids"]):
      for segment in range(1, segments.max() + 1):
        here = segments == segment
        trained = batch["loss_weights"][row][here] == 1
        tokens = batch["tokens"][row][here]
        assert (batch["positions"][row][here] == np.arange(here.sum())).all()
        assert tokens[0] == 1 and tokens[-1] == 0
        found.append((tuple(tokens[1:][~trained[1:]]), tuple(tokens[trained])))
        assert not trained[0] and (np.diff(trained.astype(int)) >= 0).all()  # one run, at the end
  encode = Characters().encode
  frame = frames.framed(prompts.load("raw"))
  expected = [(tuple(encode(frame(q))), (*encode(r), 0)) for q, r in rows.rows]
  assert sorted(found) == sorted(expected)


def test_a_first_token_is_not_trained_even_without_prompt_and_bos():
  tokenizer = types.SimpleNamespace(eos_id=2, encode=lambda text, bos=False: [3 + ord(c) % 61 for c in text.strip()])
  found = doubles.tokenize(Rows((("", "abc"),)), tokenizer, template="raw", max_length=8)
  batch = Steps(found, Packing(max_length=8, rows=1, epochs=1))[0]
  assert batch["loss_weights"][0, 0].tolist() == [0, 1, 1, 1, 0, 0, 0, 0]


def test_over_long_examples_are_dropped_whole_and_counted():
  found = tokenize(Rows((("a", "b" * 20), ("a", "b" * 70), ("c", "d"))), max_over_long_share=0.5)
  assert (len(found), found.over_long) == (2, 1)
  with pytest.raises(UserError, match="longer than a row of 64"):
    tokenize(Rows((("a", "b" * 70), ("c", "d"))), max_over_long_share=0.1)


def test_a_row_of_exactly_the_maximum_is_kept():
  prompt = len(Characters().encode(frames.framed(prompts.load("raw"))("a")))
  fits = 64 - 2 - prompt  # BOS and EOS
  assert tokenize(Rows((("a", "b" * fits), ("a", "b" * (fits + 1))))).over_long == 1


def test_empty_responses_are_counted_and_refused_above_a_share():
  rows = Rows((("a", ""), *(("a", "b") for _ in range(99))))
  assert tokenize(rows).untrained == 1
  with pytest.raises(UserError, match="1 of 100 examples have an empty response"):
    tokenize(rows, max_untrained_share=0.001)


def test_nothing_to_train_on_is_refused():
  with pytest.raises(UserError, match="nothing to train on"):
    tokenize(Rows(()))


def test_example_weighting_gives_every_example_the_same_weight():
  batch = Steps(tokenize(some_rows(9), loss_weighting="example"), Packing(max_length=64, rows=9, epochs=1))[0]
  assert batch["loss_weights"].sum() == pytest.approx(9, rel=1e-6)


def test_frame_equals_the_rendered_template():
  for name in ("raw", "sft/alpaca"):
    assert frames.framed(prompts.load(name))("What is {{ 2 }}?") == prompts.load(name).render(query="What is {{ 2 }}?")


def test_iterator_continues_from_its_state():
  steps = make_steps(some_rows(50))
  straight = [batch["tokens"] for batch in iterate(steps)]
  first = iterate(steps)
  for _ in range(3):
    next(first)
  second = iterate(steps)
  second.set_state(first.get_state())
  rest = [batch["tokens"] for batch in second]
  assert len(straight) == len(steps)
  np.testing.assert_array_equal(straight[3:], rest)
