"""Which cells a study has, and which instances each of them sees."""

import dataclasses

import pytest

from skymath_jax.errors import UserError
from skymath_jax.records import Problem
from skymath_jax.study import choices
from skymath_jax.study.ablations import ABLATIONS
from skymath_jax.study.cells import cells_of
from skymath_jax.study.plan import BASE, Cell, Part, Phase, grid, normal, starts_needed
from tests.support.study import instance, settings

POOL = [instance(n) for n in range(400)]


def pick(part, rng_seed=0, oracle=None):
  return choices.pick(choices.allowed(POOL, part.choice, choices.Judges(oracle=oracle)), part, rng_seed)


def ids(part, rng_seed=0):
  return [i.id for i in pick(part, rng_seed)]


def test_names_say_what_a_cell_is():
  hard = Phase(parts=(Part(size=20, pool=2),), stage=2)
  assert BASE.name == "base"
  assert Cell(phases=(normal(10),), rng_seed=1).name == "normal-10.seed1"
  assert Cell(phases=(normal(10), hard)).name == "normal-10+hard-20-late.seed0"
  assert Cell(phases=(normal(10), normal(10, skip=10, stage=2))).name == "normal-10+normal-10-after-10-late.seed0"
  both = Phase(parts=(Part(size=10), Part(size=20, pool=2)))
  assert Cell(phases=(both,)).name == "normal-10-and-hard-20.seed0" and Cell(phases=(both,)).instances == 30
  assert Cell(phases=(normal(10), hard)).before == Cell(phases=(normal(10),))
  assert Cell(phases=(normal(10),)).before == BASE


def test_the_grid_shares_cells_and_goes_seed_by_seed():
  cells = cells_of(settings())
  names = [cell.name for cell in cells]
  assert len(names) == len(set(names)) and names[0] == "base"
  assert [c.rng_seed for c in cells[1:]] == sorted(c.rng_seed for c in cells[1:])
  # 5 sizes; metamath, evol, xwin; verified; k-center; then hard, then more normal (twice the normal is size 40);
  # shuffled; 10-gram; short: "all three methods", "random" and the first phases are the cell of size 20
  assert len(cells) == 1 + 2 * (5 + 3 + 1 + 1 + 2 + 1 + 1 + 1)
  assert starts_needed(cells) == {"normal-20.seed0", "normal-20.seed1"}
  assert len(grid([10, 20], [], 3)) == 7


def test_bad_studies_are_refused():
  for change, match in (
    ({"sizes": (10, 20, 40)}, "no study"),
    ({"rng_seeds": 0}, "no study"),
    ({"ablations": ("colour",)}, "no ablation 'colour'"),
  ):
    with pytest.raises(UserError, match=match):
      cells_of(settings(**change))


def test_parts_are_nested_and_stratified():
  small, large = ids(Part(size=20)), ids(Part(size=80))
  assert set(small) < set(large) and len(large) == 80
  assert ids(Part(size=20)) == small and set(ids(Part(size=20), rng_seed=1)) != set(small)
  methods = [i.method for i in pick(Part(size=80))]
  assert all(abs(methods.count(m) - 16) <= 2 for m in set(methods))


def test_a_skipped_part_goes_on_where_the_first_ends():
  first, rest, both = ids(Part(size=30)), ids(Part(size=30, skip=30)), ids(Part(size=60))
  assert not set(first) & set(rest) and set(first) | set(rest) == set(both)


def test_choices():
  assert {i.method.partition(".")[0] for i in pick(Part(size=40, choice="evol"))} == {"evol"}
  verified = pick(Part(size=40, choice="verified"))
  assert all(i.gold_match for i in verified)
  by_oracle = pick(Part(size=40, choice="verified"), 0, lambda query, answer: (True, int(answer) % 2 == 0))
  assert all(int(i.answer) % 2 == 0 for i in by_oracle)
  spread = ids(Part(size=40, choice="kcenter"))
  assert len(set(spread)) == 40 and set(spread) < set(ids(Part(size=80)))
  with pytest.raises(UserError, match="needs 100 xwin normal instances, there are 80"):
    pick(Part(size=100, choice="xwin"))


def test_the_short_half_and_the_strict_filter():
  pool = [dataclasses.replace(i, response=f"{'so ' * (n % 10)}the answer is {n}") for n, i in enumerate(POOL[:100])]
  short = choices.allowed(pool, "short")
  assert 50 <= len(short) < 70 and max(len(i.response.split()) for i in short) <= 9
  shared = "one two three four five six seven eight nine ten"
  pool[3] = dataclasses.replace(pool[3], query=f"Say {shared} aloud.")
  pool[5] = dataclasses.replace(pool[5], query=f"Say {shared.removesuffix(' ten')} aloud.")
  tests = [Problem(id="t", source="t", question=f"Count {shared} times.", answer="1")]
  kept = choices.allowed(pool, "tengram", choices.Judges(tests=lambda: tests))
  assert [i for i in pool if i not in kept] == [pool[3]]


def test_every_ablation_compares_equal_amounts_of_data():
  for name, ablation in ABLATIONS.items():
    totals = {arm: Cell(phases=phases).instances for arm, phases in ablation.arms(50).items()}
    totals.pop("the first stage alone", None)  # what the paper compares the hard stage with
    assert set(totals.values()) == ({100} if name in ("hard", "order") else {50}), name
    assert ablation.expected in (-1, 1) and ablation.claim and ablation.caveat
