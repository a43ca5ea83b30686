"""The base of all catalog sources: a TFDS builder that finds its files by hand or on the network, and checks them.

A subclass says which files make a split (address at a fixed commit, SHA-256, size), under which licence, and turns one
file into problems with a pure `parse`. Each split is a TFDS config of its own, so that a machine without a network
that has only `test.jsonl` can prepare the test split.

Where a file comes from: `<data_dir>/<source>/NAME` or `NAME.gz`, put there by hand or by an earlier download; else
the network. Either way its checksum is enforced. Prepared sets lie in `<data_dir>/prepared`. TFDS' own downloader is
not used: without a network it retries for minutes.
"""

import abc
import contextlib
import dataclasses
import errno
import gzip
import hashlib
import io
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from skymath_jax import console, files
from skymath_jax.errors import UserError
from skymath_jax.records import Problem, stable_id
from skymath_jax.rows import formats

_TEXTS = ("id", "source", "question", "solution", "answer", "subject", "language", "license")
_OPTIONAL = {"solution", "answer", "subject"}  # None is kept as ""
_UNKNOWN_LEVEL = -1
_TIMEOUT = 30  # seconds without a byte


@dataclasses.dataclass(frozen=True)
class RemoteFile:
  """One file of a source: its name in the manual folder, its address, and what its bytes must be.

  Where the bytes were never at hand, `blob` is the id that git gives them; where neither is known, any will do.
  """

  name: str
  url: str
  sha256: str = ""
  size: int = 0
  blob: str = ""


def read_bytes(path: epath.PathLike) -> bytes:
  """The bytes of a file; those of a `.gz` file unpacked."""
  data = epath.Path(path).read_bytes()
  return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def rows_of(path: epath.PathLike) -> list[dict[str, Any]]:
  """The rows of a file that `rows` reads, all of them."""
  return [row for _, row in formats.read(epath.Path(path))]


def without_dollars(answer: str) -> str:
  """An answer without one pair of dollar signs around all of it."""
  answer = answer.strip()
  inner = answer[1:-1]
  return inner.strip() if len(answer) > 2 and answer[0] == answer[-1] == "$" and "$" not in inner else answer


def with_ids(name: str, problems: Iterable[dict[str, Any]], **shared: Any) -> Iterator[Problem]:
  """Problems from their fields; a question that comes again in the same file gets an id of its own."""
  seen: dict[str, int] = {}
  for fields in problems:
    question = fields["question"]
    repeat = seen[question] = seen.get(question, -1) + 1
    identity = stable_id(name, question, *([repeat] if repeat else []))
    yield Problem(id=identity, source=name, **fields, **shared)


Version = tfds.core.Version  # of a source; another one is prepared anew


class Source(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """One source of problems; see `sources.py` for the subclasses. `name` is the class's name in snake case."""

  def __init_subclass__(cls, **kwargs: Any):
    # skip_registration: TFDS has a gsm8k of its own
    super().__init_subclass__(skip_registration=True, **kwargs)  # type: ignore[call-arg]  # tfds ships no types
    cls.BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=split, version=cls.VERSION) for split in cls.FILES]

  VERSION = Version("1.0.0")
  FILES: ClassVar[dict[str, tuple[RemoteFile, ...]]] = {}  # split → files
  DEFAULT: ClassVar[tuple[str, ...]] = ()  # the splits that the bare name stands for
  LICENSE: ClassVar[str] = ""
  HOMEPAGE: ClassVar[str] = ""
  CITATION: ClassVar[str] = ""
  pkg_dir_path = epath.Path(__file__).parent

  def __init__(self, *, split: str, data_dir: epath.PathLike):
    self._folder = epath.Path(data_dir)
    self._manual = self._folder / self.name
    super().__init__(data_dir=self._folder / "prepared", config=split, file_format="array_record")

  @classmethod
  @abc.abstractmethod
  def parse(cls, path: epath.PathLike) -> Iterator[Problem]:
    """The problems of one file, in its order."""

  @classmethod
  def by_hand(cls, folder: epath.Path, split: str) -> list[epath.Path] | None:
    """Files in another layout that hold the same problems, already checked; None where there are none."""
    del folder, split
    return None

  def _info(self) -> tfds.core.DatasetInfo:
    columns = {**{key: tfds.features.Text() for key in _TEXTS}, "level": np.int32}
    return tfds.core.DatasetInfo(
      builder=self,
      description=f"{type(self).__doc__}",
      features=tfds.features.FeaturesDict(columns),
      homepage=self.HOMEPAGE,
      citation=self.CITATION,
      license=self.LICENSE,
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
    del dl_manager
    split = self.builder_config.name
    paths = self.by_hand(self._manual, split) or [fetched(file, self._manual) for file in self.FILES[split]]
    return {split: self._generate_examples(paths)}

  def _generate_examples(self, paths: Iterable[epath.Path]) -> Iterator[tuple[int, dict[str, Any]]]:
    problems = (problem for path in paths for problem in self.parse(path))
    for index, problem in enumerate(problems):
      row = dataclasses.asdict(problem)
      row |= {key: row[key] or "" for key in _OPTIONAL}
      yield index, row | {"level": _UNKNOWN_LEVEL if problem.level is None else problem.level}

  def problems(self) -> list[Problem]:
    """The problems of this split, prepared at the first call.

    Raises:
      UserError: files are missing, are not what they should be, or cannot be kept here.
    """
    try:
      with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces itself there
        self.download_and_prepare()
    except OSError as error:
      if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        raise
      raise UserError(
        f"cannot keep data sets here ({error.strerror})",
        where=error.filename,
        remedy="set config.seeds.data_dir to a folder that you may write to",
      ) from None
    return [_problem(row) for row in self.as_data_source(self.builder_config.name)]


def fetched(file: RemoteFile, folder: epath.Path) -> epath.Path:
  """The file in `folder`, put there by hand (perhaps as `.gz`) or now by download; its bytes are checked.

  Raises:
    UserError: it cannot be had, or is not what it must be.
  """
  for path in (folder / file.name, folder / f"{file.name}.gz"):
    if path.exists():
      check(read_bytes(path), file, where=path)
      return path
  data = download(file, remedy=f"fetch it by hand and put it at {folder / file.name}")
  files.write_bytes(folder / file.name, data)
  return folder / file.name


def check(data: bytes, file: RemoteFile, *, where: object) -> None:
  """Compares bytes with what `file` must be.

  Raises:
    UserError: they differ; both hashes are named.
  """
  kind, wanted = ("git blob id", file.blob) if file.blob else ("SHA-256", file.sha256)
  content = b"blob %d\0" % len(data) + data if file.blob else data
  found = (hashlib.sha1 if file.blob else hashlib.sha256)(content).hexdigest()
  if wanted and found != wanted:
    size = f"{file.size:,} " if file.size else ""
    raise UserError(
      f"not the expected {file.name} ({len(data):,} bytes with {kind} {found}, not {size}with {wanted})",
      where=where,
      remedy="fetch it again, or name your own file by its path (ending in .jsonl)",
    )


def download(file: RemoteFile, *, remedy: str) -> bytes:
  """The bytes of `file` from its address, checked.

  Raises:
    UserError: the network does not give them (with `remedy`), or they are not the expected ones.
  """
  import pooch

  console.log(f"fetching {file.url}" + (f" ({file.size:,} bytes)" if file.size else ""))
  pooch.get_logger().setLevel("WARNING")  # it would announce the file a second time
  with tempfile.TemporaryDirectory() as folder:
    try:
      path = pooch.retrieve(
        file.url, known_hash=None, fname=file.name, path=folder, downloader=pooch.HTTPDownloader(timeout=_TIMEOUT)
      )  # `check` compares the hash, as it does for a file put there by hand, packed or not
    except OSError as error:
      raise UserError(f"could not fetch {file.name} ({error})", where=file.url, remedy=remedy) from None
    data = Path(path).read_bytes()
  check(data, file, where=file.url)
  return data


def _problem(row: dict[str, Any]) -> Problem:
  fields: dict[str, Any] = {key: row[key].decode() for key in _TEXTS}
  fields |= {key: fields[key] or None for key in _OPTIONAL}
  level = int(row["level"])
  return Problem(**fields, level=None if level == _UNKNOWN_LEVEL else level)
