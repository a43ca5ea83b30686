"""Nested, stratified subsets for scaling studies: a smaller one lies inside every larger one of the same seed.

All instances are put into one order that depends on their ids, methods and the seed only; a subset is a beginning of
that order. Within a method the order is by hash; a method's i-th of n instances stands at the quantile (i + 1/2) / n,
and the methods are merged by quantile. So every beginning holds each method in its share, give or take one or two.

  [len(subset(instances, size)) for size in (1000, 2000, 4000)]  → each is part of the next
"""

from collections.abc import Hashable, Sequence

import numpy as np

from skymath_jax.records import Instance, stable_id


def subset(instances: Sequence[Instance], size: int, rng_seed: int = 0) -> list[Instance]:
  """`size` of `instances`, in their order, each method in its share; all of them where there are no more.

  Args:
    instances: with distinct ids; the choice does not depend on their order.
    size: how many.
    rng_seed: another seed, another choice; subsets of one seed are nested.
  """
  order = stratified_order([i.id for i in instances], [i.method for i in instances], rng_seed)
  return [instances[index] for index in np.sort(order[: max(size, 0)]).tolist()]


def stratified_order(ids: Sequence[str], strata: Sequence[Hashable], rng_seed: int = 0) -> np.ndarray:
  """A permutation of the indices, every beginning of which holds each stratum in its share, give or take one or two.

  Args:
    ids: distinct names, which decide the order inside a stratum.
    strata: of each, such as its method.
    rng_seed: of the order.

  Returns:
    indices `[count]`, int64.
  """
  lots = np.array([int(stable_id("subset", rng_seed, name), 16) for name in ids], np.uint64)
  numbers: dict[Hashable, int] = {}
  groups = np.array([numbers.setdefault(name, len(numbers)) for name in strata], np.int64)
  by_group = np.lexsort((lots, groups))
  counts = np.bincount(groups, minlength=len(numbers))
  starts = np.cumsum(counts) - counts
  quantiles = np.empty(len(lots))
  sorted_groups = groups[by_group]
  quantiles[by_group] = (np.arange(len(lots)) - starts[sorted_groups] + 0.5) / counts[sorted_groups]
  return np.lexsort((lots, quantiles))
