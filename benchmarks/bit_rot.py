"""Single bits flipped in a finished workdir, as a disk does it: each is named with a remedy, or without effect.

    skymath bench bit_rot --workdir=RUN [--flips=200] [--seed=0]

Works on a copy. Size and time of the file stay as they were, so that only reading finds the damage (`skymath verify`).
Without effect are files that each run writes anew (summary, report), those that nothing of ours reads (logs, events),
and a config that says the same in other words.
"""

import argparse
import collections
import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skymath_jax.recipe.verify import verify
from skymath_jax.recipe.workdir import CONFIG

WITHOUT_EFFECT = {
  "written anew by each run": re.compile(r"(summary\.json|report\.html)$"),  # in the workdir itself
  "a log": re.compile(r".*\.log$"),
  "read by TensorBoard alone": re.compile(r".*events\.out\.tfevents[^/]*$"),
  "only its being there counts": re.compile(r"(.*/)?(\.skymath_jax|\.[^/]*\.?lock)$"),
}


def flip(path: Path, rng: random.Random) -> bytes:
  """Flips one bit and leaves size and time as they were; returns what was there."""
  before, data = path.stat(), path.read_bytes()
  changed = bytearray(data)
  changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  restore(path, bytes(changed), before)
  return data


def restore(path: Path, data: bytes, stat: os.stat_result) -> None:
  """Writes `data` with the times of `stat`."""
  path.write_bytes(data)
  os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def outcome(root: Path, name: str, before: bytes) -> str:
  """How the damage of the file `name` is met, which held `before`."""
  try:
    found = "\n".join(wrong for _, wrong in verify(root) if wrong)
  except Exception as error:  # the config cannot be read: told, too
    found = str(error)
  if Path(name).name in found and "emove" in found:
    return "named with a remedy"
  if name == CONFIG and json.loads((root / name).read_text()) == json.loads(before):
    return "says the same in other words"
  return next((why for why, pattern in WITHOUT_EFFECT.items() if pattern.match(name)), "SILENT")


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """Rows: flips, and those among them that nobody noticed."""
  parser = argparse.ArgumentParser("skymath bench bit_rot")
  parser.add_argument("--workdir", required=True)
  parser.add_argument("--flips", type=int, default=200)
  parser.add_argument("--seed", type=int, default=0)
  chosen = parser.parse_args(arguments)
  rng, outcomes, silent = random.Random(chosen.seed), collections.Counter[str](), []
  with tempfile.TemporaryDirectory() as temporary:
    root = Path(temporary) / "run"
    shutil.copytree(chosen.workdir, root)
    list(verify(root))
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.stat().st_size)
    for _ in range(chosen.flips):
      name = rng.choice(names)
      stat = (root / name).stat()
      data = flip(root / name, rng)
      how = outcome(root, name, data)
      restore(root / name, data, stat)
      outcomes[how] += 1
      silent += [name] if how == "SILENT" else []
  settings = {"files": len(names), "outcomes": dict(outcomes), "silent": silent}
  yield {"name": "bit_rot", "value": sum(outcomes.values()), "unit": "flips", "settings": settings}
  yield {"name": "bit_rot.silent", "value": len(silent), "unit": "flips that nobody noticed"}
