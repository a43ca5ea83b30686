"""What must hold for any answers: a gold is itself, order and wrapping change nothing, other numbers differ."""

import gzip
import json
import random
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skymath_jax.grading import equivalent, gold_answer
from tests.support.grading import CASES, FORMS

PAIRS = [row for rows in CASES.values() for row in rows] + [(f.gold, f.text, f.same) for f in FORMS if not f.response]
WRAPPINGS = [
  r"${}$",
  r"\({}\)",
  r"\[{}\]",
  r"\boxed{{{}}}",
  r"$\boxed{{{}}}$",
  " {} ",
  r"\displaystyle {}",
  r"$\displaystyle{{}}{}$",
]
DATA = next((p for up in Path(__file__).resolve().parents if (p := up / "shared" / "data").is_dir()), None)


def same(a: str, b: str) -> bool:
  return equivalent(a, b, mode="symbolic")


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_harmless_wrapping_changes_no_verdict(wrapping):
  wrong = []
  for gold, pred, wanted in PAIRS[::3]:
    if not pred or "$" in pred or "boxed" in pred or "**" in pred or pred.startswith("="):
      continue
    wrapped = wrapping.format(pred)
    wrong += [(gold, wrapped)] if same(gold, wrapped) is not wanted else []
  assert not wrong


def test_every_answer_of_the_tables_is_itself_however_spaced():
  answers = {text for pair in PAIRS for text in pair[:2] if text.strip()}
  assert [text for text in answers if not same(text, text) or not same(text, f" {text}\n")] == []


rationals = st.fractions(min_value=-1000, max_value=1000, max_denominator=400)


def spellings(value: Fraction) -> list[str]:
  """Ways to write a rational number that are all exact."""
  top, bottom = abs(value.numerator), value.denominator
  sign = "-" if value < 0 else ""
  whole, rest = divmod(top, bottom)
  found = [f"{sign}{top}/{bottom}", rf"{sign}\frac{{{top}}}{{{bottom}}}", rf"\frac{{{sign}{3 * top}}}{{{3 * bottom}}}"]
  if bottom == 1:
    found += [f"{sign}{top}", f"{sign}{top}.0", f"{sign}{top:,}", rf"{sign}{top}\text{{ cm}}", f"x = {sign}{top}"]
  elif whole:
    found += [rf"{sign}{whole}\frac{{{rest}}}{{{bottom}}}", f"{sign}{whole} {rest}/{bottom}"]
  if (10**6 * value).denominator == 1:
    found.append(f"{float(value):.6f}")
  return found


@settings(max_examples=150, derandomize=True)
@given(rationals)
def test_all_spellings_of_a_number_are_the_same(value):
  first, *others = spellings(value)
  assert all(same(first, other) and same(other, first) for other in others)


@settings(max_examples=150, derandomize=True)
@given(rationals, rationals, st.integers(0, 99))
def test_different_numbers_are_never_the_same(a, b, choice):
  if a != b:
    left, right = (options[choice % len(options)] for options in (spellings(a), spellings(b)))
    assert not same(left, right)


@settings(max_examples=100, derandomize=True)
@given(st.integers(0, 10**40), st.integers(1, 9))
def test_integers_are_compared_to_the_last_digit(value, step):
  assert not same(str(value), str(value + step))
  assert not same(f"10^{{-30}} * {value}", f"10^{{-30}} * {value + step}")


@settings(max_examples=60, derandomize=True)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=5, unique=True), st.randoms(use_true_random=False))
def test_lists_have_no_order_and_tuples_have(items, rng):
  shuffled = rng.sample(items, len(items))
  as_list, as_set, as_tuple = (
    (lambda xs: ", ".join(map(str, xs))),
    (lambda xs: rf"\{{{as_list(xs)}\}}"),
    (lambda xs: f"({as_list(xs)})"),
  )
  assert same(as_list(items), as_list(shuffled)) and same(as_set(items), as_list(shuffled))
  assert same(as_tuple(items), as_tuple(shuffled)) is (items == shuffled)
  assert not same(as_list(items), as_list([*items[:-1], 11]))
  assert not same(as_set(items), as_set(items[:-1]))


def test_a_changed_digit_sign_or_bracket_makes_another_answer():
  rng = random.Random(3)
  golds = sorted({gold for gold, pred, wanted in PAIRS if wanted and any(c.isdigit() for c in gold)})
  accepted = []
  for gold in golds:
    places = [i for i, c in enumerate(gold) if c.isdigit()]
    place = rng.choice(places)
    digit = rng.choice([d for d in "123456789" if d != gold[place]])
    changed = gold[:place] + digit + gold[place + 1 :]
    accepted += [(gold, changed)] if same(gold, changed) else []
  assert len(golds) > 250
  assert len(accepted) <= 10, (
    accepted
  )  # a float's last digit, indices of `x_1 = 2, x_2 = 3`, what ⌊3.7⌋ or a maximum drops


def math_golds() -> list[str]:
  if DATA is None:
    pytest.skip("the shared data is not here")
  lines = (DATA / "math" / "test.jsonl").read_text(encoding="utf-8").splitlines()
  with gzip.open(DATA / "math" / "train.jsonl.gz", "rt", encoding="utf-8") as f:
    lines += f.read().splitlines()
  return [gold_answer(json.loads(line)["solution"]) for line in lines]


def test_every_math_gold_is_itself_in_both_modes():
  golds = math_golds()
  assert len(golds) == 12_500
  assert [g for g in golds if not equivalent(g, g, "strict")] == []
  assert [g for g in golds[::7] if not same(g, g)] == []  # all of them, however wrapped, in the slow one
  assert [g for g in golds[3::7] if not same(g, rf"$\displaystyle {g}$.")] == []


@pytest.mark.slow
def test_every_math_gold_is_itself_however_wrapped():
  golds = sorted(set(math_golds()))
  assert [(g, w) for g in golds for w in WRAPPINGS if not same(g, w.format(g))] == []


def test_every_gsm8k_gold_is_itself():
  if DATA is None:
    pytest.skip("the shared data is not here")
  for part in ("train", "test"):
    rows = [json.loads(line) for line in (DATA / "gsm8k" / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]
    golds = [gold_answer(row["answer"]) for row in rows]
    assert [g for g in golds[::5] if not (equivalent(g, g, "strict") and same(g, f"{g}.0") and same(g, f"${g}$"))] == []
