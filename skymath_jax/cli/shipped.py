"""The folders `benchmarks` and `configs`: beside the package in a clone, inside it where a wheel is installed."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def folder(name: str) -> Path:
  """The folder `benchmarks` or `configs`."""
  inside = PACKAGE / name
  return inside if inside.is_dir() else PACKAGE.parent / name


def recipe(file: str) -> Path:
  """An experiment file as given; where none is there, the shipped one: of `quickstart`, or `configs/quickstart.py`."""
  path = Path(file)
  shipped = folder("configs") / f"{path.name.removesuffix('.py')}.py"
  return shipped if not path.exists() and path.parent in (Path(), Path("configs")) and shipped.exists() else path
