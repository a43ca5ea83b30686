import asyncio
import dataclasses
import random

import jax
import numpy as np
import pytest
from flax import nnx

from skymath_jax.engine import plan
from skymath_jax.engine.engine import Engine
from skymath_jax.engine.programs import programs_of
from skymath_jax.engine.sizes import buckets
from skymath_jax.engine.slots import Slots
from skymath_jax.engine.types import EngineSettings, Prompt
from skymath_jax.errors import UserError
from skymath_jax.generation import Request, RequestRejected, Sampling
from skymath_jax.testing.tokenizers import ByteTokenizer
from tests.support.serving import MAX_LENGTH, by_id, reference_tokens, requests
from tests.support.serving import local_generator as generator


def test_tokens_are_those_of_full_forward_passes(decoder, tokenizer):
  asked = requests(18)
  answers = by_id(generator(decoder, tokenizer).generate_all(asked))
  for request in asked:
    prompt = tokenizer.encode(request.prompt, bos=True)
    new = reference_tokens(decoder, prompt, request.sampling, tokenizer.eos_id)
    reason = "length" if len(new) == request.sampling.max_tokens else "stop"
    assert answers[request.id] == (request.id, tokenizer.decode(new), reason, len(prompt), len(new), "", True)
  assert len({text for _, text, *_ in answers.values()}) > 10  # or the comparison shows little


def test_same_tokens_whatever_the_neighbours_slots_chunks_and_order(decoder, tokenizer):
  asked = requests(18)
  expected = by_id(generator(decoder, tokenizer).generate_all(asked))
  shuffled = random.Random(0).sample(asked, len(asked))
  assert by_id(generator(decoder, tokenizer).generate_all(shuffled)) == expected
  assert by_id(generator(decoder, tokenizer, slots=7, steps_per_call=3).generate_all(shuffled)) == expected
  alone = generator(decoder, tokenizer)
  assert by_id(response for request in asked[:6] for response in alone.generate_all([request])) == {
    str(i): expected[str(i)] for i in range(6)
  }


def test_idle_slots_are_not_computed_in_bfloat16_and_no_token_changes(decoder, monkeypatch):
  """Float32 products of a CPU depend on the number of rows in their last bits, so there all slots are computed."""
  narrow = decoder.replace(dtype="bfloat16")
  asked = requests(25, max_tokens=30)
  asked[3] = dataclasses.replace(asked[3], sampling=dataclasses.replace(asked[3].sampling, max_tokens=59))
  seen, real = [], Slots.generate
  monkeypatch.setattr(Slots, "generate", lambda slots: (real(slots), seen.append(slots.state.tokens.shape[0]))[0])
  expected = by_id(generator(narrow, ByteTokenizer(eos_id=None), slots=20).generate_all(asked))
  assert seen[0] == 20 and seen[-1] == 4
  for slots in (1, 3, 17):
    alone = generator(narrow, ByteTokenizer(eos_id=None), slots=slots, steps_per_call=3)
    assert by_id(alone.generate_all(asked[::-1])) == expected
  seen.clear()
  generator(decoder, ByteTokenizer(eos_id=None), slots=20).generate_all(asked)
  assert set(seen) == {20}


def test_what_is_drawn_in_bfloat16_does_not_depend_on_how_many_rows_are_computed():
  decoder, _, settings = plan.load(
    "asset:micro_teacher", EngineSettings(slots=64, max_length=256, steps_per_call=16), dtype=None
  )
  engine, rng = Engine(decoder, settings), np.random.default_rng(0)
  assert engine.sizes.compact and engine.sizes.rows == (4, 16, 64)
  prompts = [
    Prompt(tokens=(1, *rng.integers(3, 896, length).tolist()), max_tokens=64, temperature=0.9, seed=seed, top_p=top_p)
    for seed, (length, top_p) in enumerate(zip(rng.integers(1, 150, 60), (1.0, 0.9) * 30, strict=True))
  ]

  def answers(prompts: list[Prompt]) -> list[list[int]]:
    slots = Slots(engine)
    for slot, prefix in enumerate(engine.prefill(prompts)):
      slots.insert(prefix, slot)
    found: list[list[int]] = [[] for _ in prompts]
    for _ in range(64 // settings.steps_per_call):
      rows = np.asarray(slots.generate())
      for slot, tokens in enumerate(found):
        tokens += rows[slot, : rows[slot, settings.steps_per_call : -1].sum()].tolist()
    return found

  together = answers(prompts)
  assert [answer for start in range(0, 60, 4) for answer in answers(prompts[start : start + 4])] == together


@pytest.mark.parametrize("max_tokens", [1, 3, 4, 5, 8, 9])
def test_max_tokens_is_exact(decoder, max_tokens):
  asked = requests(6, max_tokens=max_tokens)
  answers = generator(decoder, ByteTokenizer(eos_id=None)).generate_all(asked)
  assert [(r.completion_tokens, r.finish_reason) for r in answers] == [(max_tokens, "length")] * 6


def test_the_end_of_sequence_token_ends_a_response_anywhere_in_a_chunk(decoder):
  plain = ByteTokenizer(eos_id=None)
  prompts = ["a", "bc", "qrst", "xx", "hello"]
  full = {p: reference_tokens(decoder, plain.encode(p, bos=True), Sampling(max_tokens=20), None) for p in prompts}
  ends = set()
  for eos in [full[prompt][at] for prompt, at in zip(prompts, (0, 1, 3, 4, 7), strict=True)]:
    ends.update(full[p].index(eos) for p in prompts if eos in full[p])
    asked = [Request(id=p, prompt=p, sampling=Sampling(max_tokens=20)) for p in prompts]
    for answer in generator(decoder, ByteTokenizer(eos_id=eos)).generate_all(asked):
      expected = full[answer.id][: full[answer.id].index(eos)] if eos in full[answer.id] else full[answer.id]
      assert answer.completion_tokens == len(expected)
      assert answer.finish_reason == ("stop" if eos in full[answer.id] else "length")
      assert answer.text == plain.decode(expected)
  assert len(ends) >= 3, "the prompts do not cover several places in a chunk"


def test_stop_texts_cut_at_the_same_token_whatever_the_chunk(decoder):
  tokenizer = ByteTokenizer(eos_id=None)
  base = requests(8, max_tokens=24, temperature=1.0, top_p=1.0, top_k=0)
  whole = {r.id: r.text for r in generator(decoder, tokenizer).generate_all(base)}
  stops = {r.id: whole[r.id][6:8] for r in base if len(whole[r.id]) > 8}
  assert len(stops) >= 3
  asked = [
    dataclasses.replace(r, sampling=dataclasses.replace(r.sampling, stop=("never there", stops[r.id])))
    for r in base
    if r.id in stops
  ]
  answers = by_id(generator(decoder, tokenizer).generate_all(asked))
  assert by_id(generator(decoder, tokenizer, steps_per_call=3, slots=7).generate_all(asked)) == answers
  for id, stop in stops.items():
    assert answers[id][1:3] == (whole[id][: whole[id].index(stop)], "stop")


def test_a_slot_is_never_written_past_its_end(decoder):
  tokenizer = ByteTokenizer(eos_id=None)
  longest = Request(id="long", prompt="z" * (MAX_LENGTH - 2), sampling=Sampling(max_tokens=50))
  some = Request(id="some", prompt="z" * 40, sampling=Sampling(max_tokens=500))
  one = generator(decoder, tokenizer, slots=7, steps_per_call=3)
  answers = {r.id: r for r in one.generate_all([longest, some, *requests(9)])}
  for request in (longest, some):
    prompt = tokenizer.encode(request.prompt, bos=True)
    expected = reference_tokens(decoder, prompt, request.sampling, None)
    assert len(expected) == MAX_LENGTH - len(prompt)
    assert answers[request.id].text == tokenizer.decode(expected)
    assert answers[request.id].finish_reason == "length"


def test_bad_requests_are_refused_and_leave_no_trace(decoder, tokenizer):
  one = generator(decoder, tokenizer)
  with pytest.raises(RequestRejected, match="share 64"):
    one.generate_all([Request(id="1", prompt="z" * MAX_LENGTH, sampling=Sampling())])
  for bad in ({"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_k": -1}, {"max_tokens": 0}):
    with pytest.raises(RequestRejected, match="out of range"):
      Sampling(**bad)
  assert one.generate_all(requests(2))[1].id == "1"


def test_two_requests_with_one_id_are_refused_before_any_is_asked(decoder, tokenizer):
  one, asked = generator(decoder, tokenizer), requests(3)
  with pytest.raises(UserError, match="two requests have the id '1'"):
    one.generate_all([*asked, asked[1]])
  assert one.stats.sent == 0
  assert [response.id for response in one.generate_all(asked)] == ["0", "1", "2"]


def test_a_prompt_that_fails_in_prefill_fails_alone(decoder, tokenizer, monkeypatch):
  real = Engine.prefill

  def prefill(self, prompts):
    if any(len(p.tokens) == 14 for p in prompts):
      raise RuntimeError("injected")
    return real(self, prompts)

  monkeypatch.setattr(Engine, "prefill", prefill)
  one = generator(decoder, tokenizer)
  good = requests(4)
  bad = Request(id="bad", prompt="k" * 13, sampling=Sampling())

  async def run():
    return await asyncio.gather(*(one.complete(r) for r in [*good[:2], bad, *good[2:]]), return_exceptions=True)

  results = asyncio.run(run())
  assert [type(r).__name__ for r in results] == ["Response", "Response", "RuntimeError", "Response", "Response"]
  monkeypatch.undo()
  assert by_id(r for r in results if not isinstance(r, Exception)) == by_id(
    generator(decoder, tokenizer).generate_all(good)
  )


def test_it_goes_on_after_a_failed_step(decoder, tokenizer, monkeypatch):
  one = generator(decoder, tokenizer)
  expected = by_id(one.generate_all(requests(5)))
  with monkeypatch.context() as patch:
    patch.setattr("skymath_jax.engine.slots.Slots.generate", lambda *_: 1 / 0)
    with pytest.raises(Exception, match="division by zero"):
      one.generate_all(requests(5))
  assert by_id(one.generate_all(requests(5))) == expected


def test_models_of_one_shape_share_programs_and_keep_their_own_weights(decoder, tokenizer):
  first, second = decoder, nnx.clone(decoder)
  nnx.update(second, jax.tree.map(lambda w: -w if w.ndim == 2 else w, nnx.state(decoder, nnx.Param)))
  before = programs_of.cache_info().misses
  a = generator(first, tokenizer).generate_all(requests(3, temperature=0.0))
  b = generator(second, tokenizer).generate_all(requests(3, temperature=0.0))
  assert programs_of.cache_info().misses - before <= 1
  assert [r.text for r in a] != [r.text for r in b]


def test_the_event_loop_interface_streams_and_cancels(decoder, tokenizer):
  one = generator(decoder, tokenizer)

  async def run():
    seen = [response.id async for response in one.generate(iter(requests(12)))]
    task = asyncio.ensure_future(one.complete(requests(1, max_tokens=40)[0]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
      await task
    return seen

  assert sorted(asyncio.run(run()), key=int) == [str(i) for i in range(12)]
  assert one.stats.completed == 12
  asyncio.run(one.close())
  with pytest.raises(RuntimeError, match="closed"):
    one.generate_all(requests(1))


def test_buckets_cover_every_length():
  assert buckets(32, 200, halves=True) == (32, 48, 64, 96, 128, 192, 200)
  assert buckets(32, 256, halves=False) == (32, 64, 128, 256)
  assert buckets(128, 64, halves=True) == (64,)
