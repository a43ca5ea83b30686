"""The compiled selection picks what the plain rule picks; embeddings are unit vectors that know like from unlike."""

import numpy as np
import pytest

from skymath_jax import diversity
from skymath_jax.curation import coreset
from skymath_jax.diversity import k_center
from skymath_jax.errors import UserError

TEXTS = [
  "Mia has 5 apples. She buys 3 more. How many apples has she now?",
  "Mia has 6 apples. She buys 3 more. How many apples has she now?",
  "The books of Tom cost 12 dollars each. What do 4 of them cost?",
]


@pytest.mark.parametrize(("block", "given"), [(7, 0), (64, 5)])  # each shape is compiled, which takes a second
def test_the_compiled_rule_picks_what_the_plain_rule_picks(block, given):
  rng = np.random.default_rng(block + given)
  points = rng.normal(size=(600, 16)).astype(np.float32)
  centres = points[:given] + 0.01 if given else None
  assert k_center.k_center(points, 80, centres, block=block) == coreset.k_center(points, 80, centres)


def test_all_points_and_none(monkeypatch):
  monkeypatch.setattr(k_center, "ROWS_AT_ONCE", 8)  # several blocks, the last one padded
  points = np.random.default_rng(0).normal(size=(21, 4)).astype(np.float32)
  assert sorted(k_center.k_center(points, 99, block=16)) == list(range(21))
  assert k_center.k_center(points, 0) == [] == k_center.k_center(points[:0], 5)
  assert k_center.k_center(points, 6, block=4) == coreset.k_center(points, 6)


def test_the_default_is_what_curation_selects():
  texts = [f"{TEXTS[n % 3]} {n}" for n in range(40)]
  assert diversity.select(texts, 10, centres=TEXTS) == coreset.select(texts, 10, centres=TEXTS)


@pytest.mark.parametrize("embedding", ["hashed", "model"])
def test_like_questions_are_near(embedding):
  vectors = diversity.embed(TEXTS, embedding, model="asset:micro_base")
  assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
  likeness = vectors @ vectors.T
  assert likeness[0, 1] > likeness[0, 2] and likeness[0, 1] > likeness[1, 2]


def test_a_models_vectors_do_not_depend_on_their_company():
  together = diversity.embed([*TEXTS, "x " * 60], "model", model="asset:micro_base")
  alone = diversity.embed(TEXTS[:1], "model", model="asset:micro_base")
  assert np.allclose(together[0], alone[0], atol=2e-2)  # the model computes in bfloat16
  assert len(diversity.select(TEXTS, 2, embedding="model", model="asset:micro_base")) == 2


def test_an_embedding_that_is_not_there_is_named():
  with pytest.raises(UserError, match="use one of: hashed, model"):
    diversity.embed(TEXTS, "ada-002")
  with pytest.raises(UserError, match=r"sentence-transformers is not installed"):
    diversity.embed(TEXTS, "sentence-transformers:any")
