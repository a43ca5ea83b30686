"""MinHash finds what brute force finds, numbers make a difference, relatives are let be."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skymath_jax.curation import hashing, minhash
from skymath_jax.curation.lineage import Lineage

STORY = (
  "Tom has {} apples and buys {} more at the market, then he gives half of all his apples to his sister Ann, who lives "
  "in the house beside the old mill and bakes a cake for the whole street on every Sunday of the summer"
)


def test_numbers_make_another_problem_however_long_the_text():
  queries = [STORY.format(3, 4), STORY.format(3, 5), STORY.format(3, 4) + " today", STORY.format(4, 3)]
  assert minhash.jaccard(queries[0], queries[2]) > 0.8
  assert minhash.near(queries) == [None, None, 0, None]
  long = " ".join(f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(200))
  assert minhash.near([f"{long} 5", f"{long} 6", f"{long} five"]) == [None, None, None]


def test_relatives_are_not_compared():
  queries = [STORY.format(3, 4), STORY.format(3, 4) + " today", STORY.format(3, 4) + " now"]
  family = [frozenset("a"), frozenset("a"), frozenset("b")]
  assert minhash.near(queries, family) == [None, None, 0]
  assert minhash.near(queries, [frozenset(x) for x in "abc"]) == [None, 0, 0]


def seeds_of(parents: dict[str, tuple[str, ...]]) -> dict[str, frozenset[str]]:
  names = {name: hashing.hash64(name) for pair in parents.items() for name in (pair[0], *pair[1])}
  ids = np.array([names[name] for name in parents], np.uint64)
  above = np.array([names[name] for found in parents.values() for name in found], np.uint64)
  lineage = Lineage(ids, np.array([len(found) for found in parents.values()]), above)
  back = {number: name for name, number in names.items()}
  return {name: frozenset(back[s] for s in lineage.seeds([row])) for row, name in enumerate(parents)}


def test_lineages_follow_the_chain_to_the_seeds():
  found = seeds_of({"e1": ("seed1",), "e2": ("e1",), "x": ("e2", "seed2"), "y": ("x",), "alone": ()})
  assert found["e1"] == found["e2"] == {"seed1"} and found["alone"] == {"alone"}
  assert found["x"] == found["y"] == {"seed1", "seed2"}
  assert all(seeds_of({"c1": ("c2",), "c2": ("c1",), "me": ("me",)}).values())  # circles, which should not be, do end
  chain = {f"n{i}": (f"n{i + 1}",) for i in range(5000)}
  assert set(seeds_of(chain).values()) == {frozenset(["n5000"])}


@settings(max_examples=100)
@given(st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 20), max_size=3, unique=True), max_size=12))
def test_lineages_agree_with_a_walk(edges):
  parents = {f"{a}": tuple(f"{b}" for b in found if b > a) for a, found in edges.items()}

  def walk(name):
    above = parents.get(name, ())
    return frozenset().union(*map(walk, above)) if above else frozenset([name])

  assert seeds_of(parents) == {name: walk(name) for name in parents}


def test_known_jaccard():
  # <<a a b b c>>: 5 + 2 padded 3-grams each; a word changed in the middle touches 3 of them
  assert minhash.jaccard("a b c d e", "a b X d e") == pytest.approx(4 / 10)
  assert minhash.jaccard("a b c d e", "A  b\nC d e") == 1
  assert minhash.jaccard("a b c d e", "a b c d X") == pytest.approx(4 / 10)  # the last word weighs as much


@settings(max_examples=60)
@given(
  st.lists(st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join), max_size=25, unique=True),
  st.sampled_from([0.5, 0.8]),
)
def test_every_verdict_is_true_by_brute_force(queries, threshold):
  earlier = minhash.near(queries, threshold=threshold)
  kept = [i for i, match in enumerate(earlier) if match is None]
  for index, match in enumerate(earlier):
    if match is not None:
      assert match in kept and match < index
      assert minhash.jaccard(queries[index], queries[match]) >= threshold
  assert minhash.near(queries, threshold=threshold) == earlier


def test_recall_against_brute_force():
  rng = random.Random(1)
  vocabulary = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(300)]
  originals = [[rng.choice(vocabulary) for _ in range(60)] for _ in range(300)]
  copies = []
  for words in originals:
    copy = list(words)
    copy[rng.randrange(60)] = "changed"
    copies.append(copy)
  texts = [" ".join(words) for words in originals + copies]
  earlier = minhash.near(texts)
  assert earlier[:300] == [None] * 300
  similar = [minhash.jaccard(texts[i], texts[300 + i]) >= 0.8 for i in range(300)]
  assert all(similar)  # 59 / 65 = 0.91 and more: met by a band with probability 0.9998
  assert sum(match == i for i, match in enumerate(earlier[300:])) >= 299


def test_signatures_estimate_jaccard():
  rng = random.Random(2)
  words = [f"w{rng.randrange(5000)}x" for _ in range(400)]
  other = [word if rng.random() > 0.1 else "other" + word for word in words]
  signature, _ = minhash.signatures([words, other], hashing.Vocabulary())
  estimate = float((signature[0] == signature[1]).mean())
  grams = [set(zip(w, w[1:], w[2:], strict=False)) for w in (words, other)]
  exact = len(grams[0] & grams[1]) / len(grams[0] | grams[1])
  assert abs(estimate - exact) < 4 * np.sqrt(exact * (1 - exact) / 128)  # four standard errors of 128 permutations


def test_thousands_of_relatives_and_of_templates_stay_fast():
  family = [
    f"{STORY.format(3, 4)} {'ab'[i % 2]}{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}"
    for i in range(3000)
  ]
  assert minhash.near(family, [frozenset("s")] * 3000) == [None] * 3000
  assert minhash.near([STORY.format(i, 2 * i) for i in range(3000)]) == [None] * 3000
