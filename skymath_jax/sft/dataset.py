"""The SFT set: a TFDS data set of ArrayRecord shards, written without TFDS' slow writer and read without TensorFlow.

  sft.write(folder, instances, name="quickstart stage 1", card="# …")
  data = sft.open(folder)
  data[0]["query"], data[0]["response"], len(data), data.fingerprint

Each record is a `tf.train.Example` with all fields of an `Instance`, so `tfds.builder_from_directory(folder)` reads it
as any other TFDS set. Lists and dicts are JSON text; `gold_match` is "true", "false" or "null"; an unknown `level` or
`tokens` is -1, no `thought` the empty text. `SFTDataset` undoes all that.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from array_record.python import array_record_data_source, array_record_module
from etils import epath

from skymath_jax import files, records
from skymath_jax.errors import UserError
from skymath_jax.records import Instance

if TYPE_CHECKING:  # importing it takes two seconds, so that is done where a set is written or read
  import tensorflow_datasets as tfds

PREFIX, SPLIT, VERSION = "sft", "train", "1.0.0"
ROWS_PER_SHARD = 100_000
READ_TOGETHER = 256  # rows, when all are gone through
FACTS = "sft.json"  # what TFDS' metadata has no place for: name, rows, fingerprint
_TEXTS = ("id", "query", "response", "answer", "method", "teacher")
_JSON = ("parents", "sampling", "prompt", "gold_match", "quality")
_INTEGERS = ("stage", "pass", "level", "tokens")
_THOUGHT = "thought"  # not in every row, and in no set of an older version
_UNKNOWN = -1


def write(
  folder: epath.PathLike, instances: Sequence[Instance], *, name: str, card: str, shards: int | None = None
) -> None:
  """Writes `instances` in their order as a TFDS set with `card.md`; `folder` appears (or is replaced) only when whole.

  Args:
    folder: the data set's own folder, on a local disk or mounted bucket.
    instances: at least one.
    name: shown in the metadata.
    card: Markdown text of `card.md`.
    shards: number of files; default one for each 100,000 rows.

  Raises:
    UserError: there are no instances.
  """
  if not instances:
    raise UserError("there are no instances to write", where=folder, remedy="see dropped.jsonl for why none was kept")
  shards = shards or math.ceil(len(instances) / ROWS_PER_SHARD)
  bounds = np.linspace(0, len(instances), shards + 1).astype(int).tolist()
  with files.new_folder(folder) as temporary:
    written = [
      write_shard(temporary, number, [records.to_json(i) for i in instances[bounds[number] : bounds[number + 1]]])
      for number in range(shards)
    ]
    finish(temporary, written, name=name)
    files.write_text(temporary / "card.md", card)


@dataclasses.dataclass(frozen=True)
class Shard:
  """One file that `write_shard` left: its name, its rows, the bytes of its records, SHA-256 of each row, one by one."""

  name: str
  rows: int
  size: int
  digests: bytes


def write_shard(folder: epath.PathLike, number: int, rows: Sequence[dict[str, Any]]) -> Shard:
  """Writes rows of `records.to_json` as shard `number`; may run in several processes at once."""
  path = epath.Path(folder) / f"{PREFIX}-{number:05d}.shard"
  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")  # one record a group: fast random reads
  size, digests = 0, bytearray()
  for row in rows:
    digests += _digest(row)
    record = _encode(row)
    size += len(record)
    writer.write(record)
  writer.close()
  return Shard(path.name, len(rows), size, bytes(digests))


def finish(folder: epath.PathLike, shards: Sequence[Shard], *, name: str) -> None:
  """Makes the shards of `folder`, in this order, a TFDS set."""
  import tensorflow_datasets as tfds

  folder, digest = epath.Path(folder), hashlib.sha256()
  for number, shard in enumerate(shards):
    (folder / shard.name).rename(folder / f"{PREFIX}-{SPLIT}.array_record-{number:05d}-of-{len(shards):05d}")
    digest.update(shard.digests)
  split = tfds.core.SplitInfo(
    name=SPLIT,
    shard_lengths=[shard.rows for shard in shards],
    num_bytes=sum(shard.size for shard in shards),
    filename_template=None,
  )
  tfds.folder_dataset.write_metadata(
    data_dir=folder, features=features(), split_infos=[split], version=VERSION, check_data=False, description=name
  )
  rows = sum(shard.rows for shard in shards)
  files.write_json(folder / FACTS, {"name": name, "rows": rows, "fingerprint": digest.hexdigest()})


def features() -> "tfds.features.FeaturesDict":
  """The columns as TFDS knows them."""
  import tensorflow_datasets as tfds

  return tfds.features.FeaturesDict(
    {
      **{key: tfds.features.Text() for key in (*_TEXTS, *_JSON, _THOUGHT)},
      **{key: np.int32 for key in _INTEGERS},
      "pseudo_gold": np.bool_,
    }
  )


def _digest(row: dict[str, Any]) -> bytes:
  text = json.dumps(row, sort_keys=True, ensure_ascii=False)
  return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _encode(row: dict[str, Any]) -> bytes:
  from tensorflow_datasets.proto import tf_example_pb2

  example = tf_example_pb2.Example()
  column = example.features.feature
  for key in _TEXTS:
    column[key].bytes_list.value.append(row[key].encode())
  column[_THOUGHT].bytes_list.value.append(row.get(_THOUGHT, "").encode())
  for key in _JSON:
    column[key].bytes_list.value.append(json.dumps(row[key], ensure_ascii=False).encode())
  for key in _INTEGERS:
    column[key].int64_list.value.append(_UNKNOWN if row[key] is None else row[key])
  column["pseudo_gold"].int64_list.value.append(int(row["pseudo_gold"]))
  return example.SerializeToString(deterministic=True)


def _decode(record: bytes) -> dict[str, Any]:
  from tensorflow_datasets.proto import tf_example_pb2

  column = tf_example_pb2.Example.FromString(record).features.feature
  row: dict[str, Any] = {key: column[key].bytes_list.value[0].decode() for key in _TEXTS}
  row |= {key: json.loads(column[key].bytes_list.value[0]) for key in _JSON}
  for key in _INTEGERS:
    value = column[key].int64_list.value[0]
    row[key] = None if value == _UNKNOWN else value
  row["pseudo_gold"] = bool(column["pseudo_gold"].int64_list.value[0])
  if _THOUGHT in column and (thought := column[_THOUGHT].bytes_list.value[0].decode()):
    row[_THOUGHT] = thought
  return row


class SFTDataset:
  """Random access to a folder of `write`: a Grain source, and cheap to send to worker processes."""

  def __init__(self, folder: epath.PathLike):
    """Opens the set.

    Raises:
      UserError: the folder holds none, or not all rows that were written.
    """
    self.folder = epath.Path(folder)
    if not (self.folder / FACTS).exists():
      raise UserError("this is not an SFT data set", where=self.folder, remedy="make it with: skymath curate")
    self._facts = files.read_json(self.folder / FACTS)
    paths = [str(path) for path in files.matching(self.folder, f"{PREFIX}-{SPLIT}.array_record-*")]
    self._source = array_record_data_source.ArrayRecordDataSource(paths)
    if len(self._source) != self._facts["rows"]:
      raise UserError(
        f"{self._facts['rows']} rows were written, {len(self._source)} are there",
        where=self.folder,
        remedy="remove the folder and curate again",
      )

  @property
  def name(self) -> str:
    """The name it was written under."""
    return self._facts["name"]

  @property
  def fingerprint(self) -> str:
    """Hash of the decoded rows in their order, computed when they were written: equal data, equal fingerprint."""
    return self._facts["fingerprint"]

  def compute_fingerprint(self) -> str:
    """The fingerprint from the records themselves; differs from `fingerprint` where files were changed later."""
    digest = hashlib.sha256()
    for row in self:
      digest.update(_digest(row))
    return digest.hexdigest()

  def __len__(self) -> int:
    return self._facts["rows"]

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Row `index` as a dict of Python values with the keys of an Instance's JSON."""
    if not -len(self) <= index < len(self):
      raise IndexError(f"row {index} of {len(self)}")
    return self.__getitems__([index % len(self)])[0]

  def __iter__(self) -> Iterator[dict[str, Any]]:
    blocks = (range(i, min(i + READ_TOGETHER, len(self))) for i in range(0, len(self), READ_TOGETHER))
    return (row for block in blocks for row in self.__getitems__(block))

  def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Several rows at once, faster than one at a time."""
    return [_decode(record) for record in self._source.__getitems__([int(i) for i in indices])]

  def __repr__(self) -> str:
    return f"SFTDataset({str(self.folder)!r}, {len(self):,} rows, {self.fingerprint[:12]})"


def open(folder: epath.PathLike) -> SFTDataset:
  """The SFT set of `folder`.

  Raises:
    UserError: there is none.
  """
  return SFTDataset(folder)
