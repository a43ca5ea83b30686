"""The ablations: what is compared, what the paper says about it, and what a difference here can and cannot mean.

An arm is a chain of phases (`plan`). The first arm is the subject; every other is compared with it, seed by seed and
problem by problem. `expected` is the sign that the paper's tables give to (subject - other).
"""

import dataclasses
from collections.abc import Callable

from skymath_jax.study.plan import Part, Phase, Phases, normal

Arms = dict[str, Phases]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablation:
  """One question to the data. `arms` takes the size of each compared set."""

  title: str
  claim: str
  expected: int
  arms: Callable[[int], Arms]
  caveat: str


def _only(choice: str, size: int) -> Phases:
  return (Phase(parts=(Part(size=size, choice=choice),)),)


def _methods(size: int) -> Arms:
  return {"all three methods": (normal(size),), **{f"{name} alone": _only(name, size) for name in FAMILIES}}


def _hard(size: int) -> Arms:
  first = normal(size)
  return {
    "then hard": (first, Phase(parts=(Part(size=size, pool=2),), stage=2)),
    "the first stage alone": (first,),
    "then more normal": (first, normal(size, skip=size, stage=2)),
    "twice the normal data in one stage": (normal(2 * size),),
  }


def _order(size: int) -> Arms:
  both = Phase(parts=(Part(size=size), Part(size=size, pool=2)))
  return {"normal, then hard": _hard(size)["then hard"], "shuffled in one stage": (both,)}


FAMILIES = ("metamath", "evol", "xwin")
ABLATIONS: dict[str, Ablation] = {
  "methods": Ablation(
    title="Three augmentation methods together, or one alone",
    claim="mixing the three methods beats each of them alone at equal size (section 4.3.2, figure)",
    expected=1,
    arms=_methods,
    caveat="the micro teacher's skill differs between the methods, so a method alone also stands for how well its "
    "questions are formed",
  ),
  "verifier": Ablation(
    title="Verified answers only, or a random draw",
    claim="one million verified instances do worse on MATH than one million random ones (table 4)",
    expected=-1,
    arms=lambda size: {"verified": _only("verified", size), "random": (normal(size),)},
    caveat="the paper's verifier was about 80 % right and kept easy items; the micro world's is an oracle",
  ),
  "coreset": Ablation(
    title="Instances spread out by k-center, or a random draw",
    claim="seed selection by core-set helps on GSM8K, on MATH it is mixed (table 3)",
    expected=1,
    arms=lambda size: {"k-center": _only("kcenter", size), "random": (normal(size),)},
    caveat="the paper selects the problems of the second pass and changes the seeds with it; here the training "
    "instances themselves are selected, half of twice as many",
  ),
  "hard": Ablation(
    title="A second stage on hard data, none, or one on as much normal data",
    claim="the hard stage lifts MATH by 1.2 to 2.1 points over the first stage alone (table 13); no control of equal "
    "size is shown",
    expected=1,
    arms=_hard,
    caveat="the test set has as many problems of each level, so hard problems weigh more than among the seeds",
  ),
  "order": Ablation(
    title="Easy then hard, or all shuffled",
    claim="learning in stages, easy before hard, beats data in no order (takeaway 2; no such control is shown)",
    expected=1,
    arms=_order,
    caveat="the second stage has a learning rate of its own and starts its schedule anew, as in the paper's recipe",
  ),
  "ngram": Ablation(
    title="Thirty words shared with a test problem make a leak, or ten",
    claim="filtering 10-grams instead of 30-grams costs 8 to 12 points on MATH (table 9)",
    expected=1,
    arms=lambda size: {"30-gram filter": (normal(size),), "10-gram filter": _only("tengram", size)},
    caveat="the paper's stricter set is 2.8 % smaller, these are of one size",
  ),
  "length": Ablation(
    title="Solutions of any length, or the shorter half only",
    claim="rows of 2,048 tokens beat rows of 512 by 0.7 to 3.6 points on MATH (table 13)",
    expected=1,
    arms=lambda size: {"any length": (normal(size),), "the shorter half": _only("short", size)},
    caveat="the paper cuts what is too long, here it is left out and something shorter takes its place",
  ),
}
