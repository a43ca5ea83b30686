"""How a part's instances are picked from a pool: at random, one method alone, verified, or spread out (k-center)."""

from collections.abc import Callable, Sequence

from skymath_jax import curation
from skymath_jax.errors import UserError
from skymath_jax.records import Instance
from skymath_jax.study.plan import POOLS, Part

Oracle = Callable[[str, str], tuple[bool, bool]]  # (query, answer) → (well-formed question, right answer)
SPREAD = 2  # k-center picks from a random set so many times as large as what it may keep


def _family(name: str) -> Callable[[Instance, Oracle | None], bool]:
  return lambda instance, oracle: instance.method.partition(".")[0] == name


def _verified(instance: Instance, oracle: Oracle | None) -> bool:
  """The answer is right by the oracle where the world has one, else by a gold answer that the instance came with."""
  return instance.gold_match is True if oracle is None else oracle(instance.query, instance.answer)[1]


# choice → whether an instance may be picked
CHOICES: dict[str, Callable[[Instance, Oracle | None], bool]] = {
  "random": lambda instance, oracle: True,
  "metamath": _family("metamath"),
  "evol": _family("evol"),
  "xwin": _family("xwin"),
  "verified": _verified,
  "kcenter": lambda instance, oracle: True,
}


def allowed(pool: Sequence[Instance], choice: str, oracle: Oracle | None = None) -> list[Instance]:
  """The instances of `pool` that `choice` may pick from, in the pool's order."""
  return [instance for instance in pool if CHOICES[choice](instance, oracle)]


def require_enough(found: Sequence[Instance], part: Part) -> int:
  """How many of the instances `found` (see `allowed`) have to be drawn for `part`; `UserError` if there are fewer."""
  wanted = part.skip + part.size * (SPREAD if part.choice == "kcenter" else 1)
  if len(found) < wanted:
    raise UserError(
      f"{part.name} needs {wanted:,} {part.choice} {POOLS[part.pool]} instances, there are {len(found):,}",
      where=f"sft/stage{part.pool}",
      remedy="raise the runs per problem in config.synthesis, or lower config.study.sizes or study.ablation_size",
    )
  return wanted


def pick(found: Sequence[Instance], part: Part, rng_seed: int) -> list[Instance]:
  """The instances of `part` out of those that are allowed, in the pool's order; `UserError` if there are too few."""
  drawn = curation.subset(found, require_enough(found, part), rng_seed)
  if part.choice == "kcenter":
    chosen = curation.select([instance.query for instance in drawn], part.size)
    return [drawn[index] for index in sorted(chosen)]
  before = {instance.id for instance in curation.subset(found, part.skip, rng_seed)} if part.skip else set()
  return [instance for instance in drawn if instance.id not in before]
