"""Selection by text; embeddings are unit vectors that know like from unlike."""

import numpy as np
import pytest

from skymath_jax import coreset
from skymath_jax.errors import UserError

TEXTS = [
  "Mia has 5 apples. She buys 3 more. How many apples has she now?",
  "Mia has 6 apples. She buys 3 more. How many apples has she now?",
  "The books of Tom cost 12 dollars each. What do 4 of them cost?",
]


def test_select_skips_repeats_and_what_the_centres_cover():
  texts = ["one two three", "one two three", "alpha beta gamma", "one two three four", "delta epsilon"]
  assert coreset.select(texts, 2, embedding="hashed")[0] == 0
  assert sorted(coreset.select(texts, 99, embedding="hashed")) == [0, 2, 3, 4]
  assert coreset.select(texts, 99, centres=["alpha beta gamma"], embedding="hashed")[-1] == 3
  assert 2 not in coreset.select(texts, 99, centres=["alpha beta gamma"], embedding="hashed")
  assert set(coreset.select(texts, 2, centres=["one two three"], embedding="hashed")) == {2, 4}
  assert coreset.select([], 3, embedding="hashed") == [] and coreset.select(texts, 0, embedding="hashed") == []


@pytest.mark.parametrize("embedding", ["hashed", "model"])
def test_like_questions_are_near(embedding):
  vectors = coreset.embed(TEXTS, embedding, model="asset:micro_base")
  assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
  likeness = vectors @ vectors.T
  assert likeness[0, 1] > likeness[0, 2] and likeness[0, 1] > likeness[1, 2]


def test_a_models_vectors_do_not_depend_on_their_company():
  together = coreset.embed([*TEXTS, "x " * 60], "model", model="asset:micro_base")
  alone = coreset.embed(TEXTS[:1], "model", model="asset:micro_base")
  assert np.allclose(together[0], alone[0], atol=2e-2)  # the model computes in bfloat16
  assert len(coreset.select(TEXTS, 2, embedding="model", model="asset:micro_base")) == 2


def test_an_embedding_that_is_not_there_is_named():
  with pytest.raises(UserError, match="use one of: hashed, model"):
    coreset.embed(TEXTS, "ada-002")
  with pytest.raises(UserError, match=r"sentence-transformers is not installed"):
    coreset.embed(TEXTS, "sentence-transformers:any")
