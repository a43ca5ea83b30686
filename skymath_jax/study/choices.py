"""How a part's instances are picked: at random, one method, verified, short, by a strict leak filter, or k-center."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence

from skymath_jax import coreset, curation
from skymath_jax.errors import UserError
from skymath_jax.records import Instance, Problem
from skymath_jax.study.plan import POOLS, Part

Oracle = Callable[[str, str], tuple[bool, bool]]  # (query, answer) → (well-formed question, right answer)
SPREAD = 2  # k-center picks from a random set so many times as large as what it may keep
STRICT_NGRAM = 10  # words in a row; the curated pool is clean of runs of `config.curation.ngram`, 30 in the paper


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judges:
  """What instances are judged by: the oracle of their world, if it has one, and the problems that must not leak."""

  oracle: Oracle | None = None
  tests: Callable[[], Sequence[Problem]] = tuple


Instances = Sequence[Instance]


def _family(name: str) -> Callable[[Instances, Judges], Instances]:
  return lambda pool, judges: [instance for instance in pool if instance.method.partition(".")[0] == name]


def _verified(pool: Instances, judges: Judges) -> Instances:
  """Those whose answer is right by the oracle where the world has one, else by a gold answer that they came with."""
  if judges.oracle is None:
    return [instance for instance in pool if instance.gold_match is True]
  return [instance for instance in pool if judges.oracle(instance.query, instance.answer)[1]]


def _short(pool: Instances, judges: Judges) -> Instances:
  """Those whose response has at most as many words as the median one."""
  words = [len(instance.response.split()) for instance in pool]
  limit = statistics.median(words) if words else 0
  return [instance for instance, count in zip(pool, words, strict=True) if count <= limit]


def _strict(pool: Instances, judges: Judges) -> Instances:
  """Those that share no ten words in a row with a test problem."""
  index = curation.TestIndex({"tests": judges.tests()}, ngram=STRICT_NGRAM, sensitivity=())
  return [instance for instance in pool if index.check(instance.query, instance.response).hit is None]


# choice → the instances of a pool that may be picked, in the pool's order
CHOICES: dict[str, Callable[[Instances, Judges], Instances]] = {
  "random": lambda pool, judges: pool,
  "metamath": _family("metamath"),
  "evol": _family("evol"),
  "xwin": _family("xwin"),
  "verified": _verified,
  "kcenter": lambda pool, judges: pool,
  "tengram": _strict,
  "short": _short,
}


def allowed(pool: Instances, choice: str, judges: Judges | None = None) -> list[Instance]:
  """The instances of `pool` that `choice` may pick from, in the pool's order."""
  return list(CHOICES[choice](pool, judges or Judges()))


def require_enough(found: Instances, part: Part) -> int:
  """How many of the instances `found` (see `allowed`) have to be drawn for `part`; `UserError` if there are fewer."""
  wanted = part.skip + part.size * (SPREAD if part.choice == "kcenter" else 1)
  if len(found) < wanted:
    raise UserError(
      f"{part.name} needs {wanted:,} {part.choice} {POOLS[part.pool]} instances, there are {len(found):,}",
      where=f"sft/stage{part.pool}",
      remedy="raise the runs per problem in config.synthesis, or lower config.study.sizes or study.ablation_size",
    )
  return wanted


def pick(found: Instances, part: Part, rng_seed: int) -> list[Instance]:
  """The instances of `part` out of those that are allowed, in the pool's order; `UserError` if there are too few."""
  drawn = curation.subset(found, require_enough(found, part), rng_seed)
  if part.choice == "kcenter":
    chosen = coreset.select([instance.query for instance in drawn], part.size, embedding="hashed")
    return [drawn[index] for index in sorted(chosen)]
  before = {instance.id for instance in curation.subset(found, part.skip, rng_seed)} if part.skip else set()
  return [instance for instance in drawn if instance.id not in before]
