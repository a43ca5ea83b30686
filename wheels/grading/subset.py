"""What of skymath_jax is in the wheel: its grading room without files and processes, as a package of its own."""

import re
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "skymath_jax"
MODULES = ("boxes", "extract", "markers", "response", "rewards", "strict", "verdict")


def sources() -> dict[str, str]:
  """The files of the package beside its `__init__.py`, by their path in the wheel."""
  files = [SOURCE / "grading" / f"{name}.py" for name in MODULES]
  files += sorted((SOURCE / "grading" / "symbolic").glob("*.py"))
  found = {f"skymath_grading/{path.relative_to(SOURCE / 'grading')}": path for path in files}
  found["skymath_grading/errors.py"] = SOURCE / "errors.py"
  return {name: _renamed(path.read_text(encoding="utf-8")) for name, path in found.items()}


def _renamed(text: str) -> str:
  """`text` with the imports of the package that it moves to."""
  text = re.sub(r"\bskymath_jax\.grading\b", "skymath_grading", text)
  return re.sub(r"\bskymath_jax\.errors\b", "skymath_grading.errors", text)
