"""Bad thoughts go where the filter is named, each by its own name; good ones stay."""

import random

import pytest

from skymath_jax import curation
from skymath_jax.curation.rules import thoughts
from tests.support.curation import instance, settings, story

WORDS = "then we add the two and get so that is not what was asked first let me check it again with three".split()


def prose(words, seed=0):
  rng = random.Random(seed)
  return " ".join(f"{rng.choice(WORDS)} {rng.randint(0, 99)}" for _ in range(words // 2))


@pytest.mark.parametrize(
  ("thought", "reason"),
  [
    (None, None),
    ("", None),
    ("Short: 1/3 = 0.333333333333333333333333333333.", None),
    (prose(3000), None),
    (prose(400) + " Wait, let me check that again." * 5 + prose(100, 1), None),
    ("α + β ≤ ∑ 𝔸 ½ é Straße naïve " * 2 + prose(300), None),
    (prose(200) + " So it is 5. But wait." * 40, "thought_loops"),
    (prose(200) + "0.3" + "3" * 400, "thought_loops"),
    (prose(200) + " no no" * 300 + " and so it ends", "thought_loops"),
    ((prose(40) + ". ") * 20 + prose(40, 2), "thought_loops"),
    (prose(100) + " 所以我们需要计算这个问题的答案然后检查", "thought_switches_language"),
    (prose(100) + " Значит, ответ равен пяти", "thought_switches_language"),
    (prose(16_000), "thought_too_long"),
  ],
)  # fmt: skip
def test_a_thought(thought, reason):
  item = instance(story("horse", 3), thought=thought)
  found = curation.curate([item], test_sets={}, settings=settings(quality=("thoughts",)))
  assert [drop.reason for drop in found.dropped] == ([reason] if reason else [])
  assert not curation.curate([item], test_sets={}, settings=settings()).dropped
  steps = {step["name"]: step["dropped"] for step in found.funnel.to_json()} if reason else {}
  assert not reason or steps["quality"] == {reason: 1}


def test_a_query_in_a_script_may_be_thought_about_in_it():
  thought = prose(100) + " 所以我们需要计算这个问题的答案然后检查"
  assert thoughts.switched(thought, "小明有三个苹果") == "" and thoughts.switched(thought, "Three apples") == "CJK"


def test_thoughts_inside_responses_of_other_tools():
  item = instance(story("horse", 3))
  for start, reason in (("<think>\n" + prose(50), "thought_unclosed"), (f"<think>{prose(50)}</think>\n", None)):
    changed = instance(story("horse", 3), response=start + "\n" + item.response)
    found = curation.curate([changed], test_sets={}, settings=settings(quality=("thoughts",)))
    assert [drop.reason for drop in found.dropped] == ([reason] if reason else [])


def test_whatever_is_repeated_often_enough_is_a_loop():
  rng = random.Random(3)
  for _ in range(50):
    period = "".join(rng.choices("ab 12.\n", k=rng.randint(1, 200)))
    assert thoughts.looping(prose(100) + period * (12 + 300 // len(period)))
    assert not thoughts.looping(prose(rng.randint(0, 800), seed=rng.random()))
