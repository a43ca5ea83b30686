"""Draws random programs of a level, in the right split, with every quantity a positive integer of modest size."""

import random

from skymath_jax.problems.micro_gsm import algebra
from skymath_jax.problems.micro_gsm.program import BOTH, COMPARISONS, SPLITS, Program, Relation, whole

LARGEST = 200  # no quantity exceeds it
LEVELS = (1, 2, 3, 4, 5)

_FIRST = ("start", "start", "start", "groups", "rate")
_CHANGES = ("gain", "gain", "loss", "loss", "times", "split", "keep", "lossf", "ggain", "rgain", "rloss")
_ALONE = ("own", "own", "own", "price", "pack", "share", "need")
_TOGETHER = ("total", "total", "diff", "price", "pack", "share", "need")


def draw_program(rng: random.Random, level: int, split: str = "train") -> Program:
  """A random program with exactly `level` steps whose key is in `split`."""
  assert split in SPLITS, split
  while True:
    program = _attempt(rng, level)
    if program is not None and program.split == split and acceptable(program, (level,)):
      return program


def level_of(program: Program) -> int:
  """The number of computing steps."""
  return len(algebra.system(program).equations)


def answer_of(program: Program) -> int | None:
  """The answer, None if some quantity is no positive integer."""
  built = algebra.system(program)
  values = algebra.forward(built)
  return None if values is None else whole(values[built.answer])


def acceptable(program: Program, levels: tuple[int, ...] = LEVELS) -> bool:
  """Whether the level is one of `levels`, all quantities are positive integers of the world's size, each one matters,
  and nothing asked is given."""
  built = algebra.system(program)
  if len(built.equations) not in levels:
    return False
  values = algebra.forward(built)
  if values is None:
    return False
  if any(value > LARGEST for value in values if value is not None):
    return False
  if program.final.kind == "diff" and any(r.kind in ("more", "fewer") for r in program.relations):
    return False
  return _all_matter(built)


def _all_matter(built: algebra.System) -> bool:
  needed = {built.answer}
  for equation in reversed(built.equations):
    if equation.out not in needed:
      return False
    needed.update((equation.left, equation.right))
  return all(i in needed for i, (role, _) in enumerate(built.roles) if role == "number")


def _attempt(rng: random.Random, level: int) -> Program | None:
  """One try: a first quantity, changes, perhaps a second person, the final."""
  relations = [draw_start(rng, 0)]
  have = {0: whole(_value(relations))}
  two = level >= 1 and rng.random() < (0.25 if level == 1 else 0.4)
  final_cost = rng.randrange(2)
  for _ in range(rng.randrange(level + 1)):
    if _cost(relations) + final_cost + two >= level:
      break
    relation = draw_change(rng, 0, have[0])
    if relation is None:
      return None
    relations.append(relation)
    have[0] = whole(_value(relations))
  if two:
    second = draw_start(rng, 1) if rng.random() < 0.3 else draw_comparison(rng, have[0])
    if second is None:
      return None
    relations.append(second)
    value = _value(relations, 1)
    if value is None:
      return None
    have[1] = value
    if _cost(relations) + final_cost < level and rng.random() < 0.5:
      who = rng.randrange(2)
      change = draw_change(rng, who, have[who])
      if change is None:
        return None
      relations.append(change)
      have[who] = whole(_value(relations, who))
  final = draw_final(rng, have, final_cost)
  return None if final is None else Program(tuple(relations), final)


def _cost(relations: list[Relation]) -> int:
  return level_of(Program(tuple(relations), Relation("own", 0)))


def _value(relations: list[Relation], who: int = 0) -> int | None:
  return answer_of(Program(tuple(relations), Relation("own", who)))


def draw_start(rng: random.Random, who: int) -> Relation:
  """A first quantity."""
  kind = rng.choice(_FIRST)
  if kind == "start":
    return Relation(kind, who, (rng.randint(1, 12) * 5 if rng.random() < 0.3 else rng.randint(3, 60),))
  if kind == "groups":
    return Relation(kind, who, (rng.randint(2, 5), rng.randint(2, 20)))
  return Relation(kind, who, (rng.randint(2, 20), rng.randint(2, 5)))


def _dividers(value: int, allowed: tuple[int, ...]) -> list[int]:
  return [k for k in allowed if value % k == 0 and value > k]


def draw_change(rng: random.Random, who: int, value: int, kinds: tuple[str, ...] = _CHANGES) -> Relation | None:
  """A relation that changes `value`; None if the kind that was drawn does not fit it."""
  kind, room = rng.choice(kinds), 150 - value
  if kind == "gain":
    return Relation(kind, who, (rng.randint(2, min(60, room)),)) if room >= 2 else None
  if kind == "loss":
    return Relation(kind, who, (rng.randint(2, min(60, value - 1)),)) if value >= 3 else None
  if kind == "times":
    return Relation(kind, who, (rng.randint(2, min(5, 150 // value)),)) if value <= 75 else None
  if kind in ("split", "keep", "lossf"):
    allowed = _dividers(value, (2, 3, 4, 5) if kind == "split" else (2, 3, 4, 5, 10))
    return Relation(kind, who, (rng.choice(allowed),)) if allowed else None
  limit = value - 1 if kind == "rloss" else room
  many, each = rng.randint(2, 5), rng.randint(2, 12)
  if many * each > limit:
    return None
  return Relation(kind, who, (many, each) if kind == "ggain" else (each, many))


def draw_comparison(rng: random.Random, value: int) -> Relation | None:
  """The second person's quantity by comparison with `value`; None if the kind that was drawn does not fit."""
  kind = rng.choice(COMPARISONS)
  if kind == "more":
    return Relation(kind, 1, (rng.randint(2, 40),))
  if kind == "fewer":
    return Relation(kind, 1, (rng.randint(2, min(40, value - 1)),)) if value >= 3 else None
  if kind == "ctimes":
    return Relation(kind, 1, (rng.randint(2, min(5, 150 // value)),)) if value <= 75 else None
  allowed = _dividers(value, (2, 2, 3, 4))
  return Relation(kind, 1, (rng.choice(allowed),)) if allowed else None


def draw_final(rng: random.Random, have: dict[int, int], cost: int | None = None) -> Relation | None:
  """What is asked; `cost` 0 asks for a quantity as it stands (of the second person if there is one)."""
  two = len(have) == 2
  if cost == 0:
    return Relation("own", 1 if two else 0)
  kind = rng.choice(_TOGETHER if two else _ALONE[3:])
  if kind == "diff":
    return None if have[0] == have[1] else Relation(kind, max(have, key=have.__getitem__))
  who = BOTH if two and rng.random() < 0.7 else int(two)
  if kind == "total":
    return Relation(kind, BOTH)
  value = sum(have.values()) if who == BOTH else have[who]
  if kind == "price":
    return Relation(kind, who, (rng.randint(2, 5),)) if value <= 100 else None
  if kind == "need":
    return Relation(kind, who, (value + rng.randint(2, 40),))
  allowed = _dividers(value, (2, 3, 4, 5, 10) if kind == "pack" else (2, 3, 4, 5))
  return Relation(kind, who, (rng.choice(allowed),)) if allowed else None
