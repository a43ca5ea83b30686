"""The house in figures: what issue 13 of the project's log asked of the code, for any checkout.

python benchmarks/house.py [FOLDER]
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path


def type_errors(root: Path) -> Counter[str]:
  """Room → errors of mypy with the settings of this checkout."""
  config = Path(__file__).parents[1] / "pyproject.toml"
  command = [sys.executable, "-m", "mypy", "--config-file", str(config), "skymath_jax"]
  lines = subprocess.run(command, cwd=root, capture_output=True, text=True).stdout.splitlines()
  found = [m[1].removesuffix(".py") for line in lines if (m := re.match(r"skymath_jax/([^/:]+).*: error:", line))]
  return Counter(found)


def main() -> None:
  """Prints the figures of one checkout."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[1])
  errors = type_errors(parser.parse_args().folder)
  print(f"type errors: {errors.total()}", dict(errors.most_common()))


if __name__ == "__main__":
  main()
