"""What curation kept, as a data set of the Hugging Face hub: `data/train.jsonl`, the card with its header, pictures.

  with publish.laid_out("runs/a/curation", "ORG/NAME", inputs=["a.jsonl"]) as folder:
    hub.push(folder, "ORG/NAME", kind="dataset")

What was dropped stays here.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from skymath_jax import files, hub
from skymath_jax.errors import UserError
from skymath_jax.rows.presets import PRESETS

SIZES = {"n<1K": 1_000, "1K<n<10K": 10_000, "10K<n<100K": 100_000, "100K<n<1M": 1_000_000, "1M<n<10M": 10_000_000}


@contextlib.contextmanager
def laid_out(folder: epath.PathLike, repository: str, *, inputs: Sequence[str]) -> Iterator[epath.Path]:
  """A temporary folder with what is to be uploaded.

  Args:
    folder: that curation wrote.
    repository: ORG/NAME, for the card.
    inputs: what was curated, as `curation.inputs` has it; licences and origins of public sets follow from it.

  Raises:
    UserError: nothing was kept.
  """
  folder = epath.Path(folder)
  summary = files.read_json(folder / "summary.json")
  if not summary["kept"]:
    raise UserError("curation kept no row to upload", where=folder, remedy="see dropped.jsonl for the reasons")
  with tempfile.TemporaryDirectory(dir=os.fspath(folder)) as temporary:
    root = epath.Path(temporary)
    (root / "data").mkdir()
    _linked(folder / "kept.jsonl", root / "data" / "train.jsonl")
    for picture in files.matching(folder, "*.svg"):
      _linked(picture, root / picture.name)
    (root / "README.md").write_text(_card(folder, summary, repository, inputs))
    yield root


def _linked(path: epath.Path, target: epath.Path) -> None:
  try:
    os.link(path, target)  # it may hold gigabytes
  except OSError:
    shutil.copyfile(path, target)


def _card(folder: epath.Path, summary: dict[str, Any], repository: str, inputs: Sequence[str]) -> str:
  presets = [PRESETS[name] for name in (source.partition(":")[0] for source in inputs) if name in PRESETS]
  licences = sorted({preset.licence.lower() for preset in presets})
  ids = [source.partition(":")[0].partition("@")[0] for source in inputs if not epath.Path(source).exists()]
  origins = [preset.repository for preset in presets] + [name for name in ids if hub.is_id(name)]
  fields: dict[str, Any] = {
    "license": licences[0] if len(licences) == 1 and len(presets) == len(inputs) else "",
    "task_categories": ["text-generation"],
    "language": [name for name in summary["by_language"] if len(name) in (2, 3)],
    "size_categories": [next((size for size, most in SIZES.items() if summary["kept"] < most), "n>10M")],
    "source_datasets": origins,
    "tags": ["math", "skymath_jax"],
    "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train.jsonl"}]}],
  }
  header = "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items() if value)
  known = "".join(f"- `{p.repository}`: {p.citation}; licence {p.licence}\n" for p in presets)
  use = f"""## How to use it

```sh
skymath train --data={repository} --model=MODEL --workdir=DIR
```

`datasets.load_dataset("{repository}")` reads it, too; `query` and `response` are what is trained on.
"""
  text = (folder / "card.md").read_text().replace("`dropped.jsonl`", "`dropped.jsonl` (not uploaded)")
  return f"---\n{header}---\n\n{text}\n{use}" + (f"\n## Public sets in it\n\n{known}" if known else "")
