"""The kept rows as Parquet, which the Hugging Face `datasets` library, pandas and the rest of the world read.

  datasets.load_dataset("parquet", data_files="FOLDER/parquet/*.parquet")

The columns are those of an Instance; `sampling`, `prompt` and `quality` are JSON text, as their keys differ from row to
row.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from skymath_jax.errors import UserError

FOLDER = "parquet"
_JSON = ("sampling", "prompt", "quality")


def write(folder: epath.PathLike, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
  """Writes `FOLDER/train-NUMBER.parquet` below `folder` from rows of `records.to_json`.

  Raises:
    UserError: pyarrow is not installed.
  """
  try:
    import pyarrow as pa
    import pyarrow.parquet
  except ImportError:
    raise UserError(
      "Parquet needs pyarrow", where="config.curation.parquet", remedy="install pyarrow, or set it to False"
    ) from None
  text, whole = pa.string(), pa.int32()
  kinds = {"parents": pa.list_(text), "gold_match": pa.bool_(), "pseudo_gold": pa.bool_()}
  kinds |= dict.fromkeys(("stage", "pass", "level", "tokens"), whole)
  columns = {
    key: pa.array([json.dumps(row[key], ensure_ascii=False) if key in _JSON else row.get(key) for row in rows], kind)
    for key, kind in (
      (key, kinds.get(key, text)) for key in {**rows[0], "thought": None}
    )  # not every row has a thought
  }
  path = epath.Path(folder) / FOLDER / f"train-{number:05d}.parquet"
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("wb") as file:
    pyarrow.parquet.write_table(pa.table(columns), file, compression="zstd")
