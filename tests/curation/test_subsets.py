import itertools
import random
from collections import Counter

import pytest

from skymath_jax.curation import subset
from skymath_jax.records import Instance

SHARES = {"xwin": 500, "evol.deepen": 301, "metamath.fobar": 97, "metamath.rephrase": 2}


@pytest.fixture(scope="module")
def instances():
  made = [
    Instance(id=f"{method} {n}", query="q", response="r", answer="a", method=method, parents=(), stage=1)
    for method, count in SHARES.items()
    for n in range(count)
  ]
  random.Random(0).shuffle(made)
  return made


def test_every_smaller_subset_lies_inside_the_larger(instances):
  chosen = [{i.id for i in subset(instances, size)} for size in range(0, 901, 50)]
  assert [len(ids) for ids in chosen] == list(range(0, 901, 50))
  assert all(small < large for small, large in itertools.pairwise(chosen))


@pytest.mark.parametrize("size", [1, 10, 137, 450, 899])
def test_each_method_has_its_share(instances, size):
  found = Counter(i.method for i in subset(instances, size, 3))
  assert sum(found.values()) == size
  for method, count in SHARES.items():
    assert abs(found[method] - size * count / len(instances)) <= 1


def test_the_choice_depends_on_the_seed_and_not_on_the_order(instances):
  shuffled = random.Random(1).sample(instances, len(instances))
  first = subset(instances, 100)
  assert {i.id for i in first} == {i.id for i in subset(shuffled, 100)} != {i.id for i in subset(instances, 100, 1)}
  places = [instances.index(i) for i in first]
  assert places == sorted(places)  # what is chosen stays in the order it had


def test_sizes_beyond_the_set(instances):
  assert subset(instances, 10_000) == instances and subset(instances, 0) == subset([], 5) == []
