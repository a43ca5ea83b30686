"""Puts the modules that `subset.py` names into the wheel, and the licence."""

import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Subset(BuildHookInterface):
  """Writes them to a folder that lasts as long as the build."""

  def initialize(self, version: str, build_data: dict[str, Any]) -> None:
    self.folder = tempfile.TemporaryDirectory()
    here = Path(self.root)
    for name, text in runpy.run_path(str(here / "subset.py"))["sources"]().items():
      path = Path(self.folder.name, name)
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(text, encoding="utf-8")
      build_data["force_include"][str(path)] = name
    build_data["force_include"][str(here.parents[1] / "LICENSE")] = "skymath_grading/LICENSE"

  def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
    self.folder.cleanup()
