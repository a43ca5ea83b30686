"""What a study trains: cells, each a chain of phases on stated parts of the synthesized instances.

  normal-2500.seed0                   2,500 stage-1 instances, one phase
  normal-2500+hard-2500.seed0         then 2,500 stage-2 instances in a second phase
  normal-2500-and-hard-2500.seed0     the same instances shuffled in one phase

A name says everything that a cell is made of, so two parts of a study that want the same cell share it, and a chain
whose beginning was trained already starts there.
"""

import dataclasses
from collections.abc import Iterable, Sequence

POOLS = {1: "normal", 2: "hard"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """`size` instances of stage `pool`, as `choice` orders them, the first `skip` left out.

  `choice` is a key of `choices.CHOICES`; orders are nested, so a smaller part lies inside a larger one of its seed.
  """

  size: int
  pool: int = 1
  choice: str = "random"
  skip: int = 0

  @property
  def name(self) -> str:
    words = [POOLS[self.pool]] if self.choice == "random" else [self.choice]
    return "-".join([*words, str(self.size), *(["after", str(self.skip)] if self.skip else [])])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
  """One SFT run over `parts` shuffled together, with the learning rate and the epochs of training stage `stage`."""

  parts: tuple[Part, ...]
  stage: int = 1

  @property
  def name(self) -> str:
    return "-and-".join(part.name for part in self.parts) + ("" if self.stage == 1 else "-late")


Phases = tuple[Phase, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
  """The base model after `phases`, every draw made with `rng_seed`. Without phases it is the base itself."""

  phases: Phases
  rng_seed: int = 0

  @property
  def name(self) -> str:
    """Unique, and fit for a folder."""
    return f"{'+'.join(phase.name for phase in self.phases)}.seed{self.rng_seed}" if self.phases else "base"

  @property
  def instances(self) -> int:
    """How many instances it sees, in all phases."""
    return sum(part.size for phase in self.phases for part in phase.parts)

  @property
  def before(self) -> "Cell":
    """The cell that the last phase starts from."""
    return dataclasses.replace(self, phases=self.phases[:-1]) if len(self.phases) > 1 else BASE


BASE = Cell(phases=())


def normal(size: int, *, skip: int = 0, stage: int = 1) -> Phase:
  """A phase on `size` stage-1 instances in the teacher's own mixture."""
  return Phase(parts=(Part(size=size, skip=skip),), stage=stage)


def grid(sizes: Iterable[int], arms: Iterable[Phases], rng_seeds: int) -> list[Cell]:
  """All cells, each once: the base, then seed by seed, so that a study that is stopped is a smaller study.

  Args:
    sizes: of the scaling curve.
    arms: what the ablations compare.
    rng_seeds: how many seeds.
  """
  chains = [(normal(size),) for size in sorted(sizes)] + list(arms)
  cells = [BASE, *(Cell(phases=phases, rng_seed=seed) for seed in range(rng_seeds) for phases in chains)]
  return list({cell.name: cell for cell in cells}.values())


def starts_needed(cells: Sequence[Cell]) -> set[str]:
  """Names of the cells whose weights `cells` go on from."""
  return {cell.before.name for cell in cells if cell.phases} - {BASE.name}
