"""Malformed model folders and data files by the hundred: each is refused in words or read, none hangs, none writes.

    skymath bench malformed_files [--folders=500] [--files=500] [--seed=0]

Folders: configs with values of another kind or size, broken JSON, links, pipes and devices in place of files, weight
files whose headers lie, indices that lead out, tokenizers with anything anywhere, files of a gigabyte. Data: JSON lines
and Parquet with bytes flipped, cut, nested, of other encodings, with values of other kinds.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from skymath_jax import models
from skymath_jax.curation import chunks
from skymath_jax.errors import UserError
from skymath_jax.problems import user_files

SECONDS = 60  # a case that takes longer hangs
VALUES: tuple[Any, ...] = (
  *(None, True, False, 0, -1, 1, 3, 3.7, 1e308, 1e-300, 10**9, 10**30, -(10**30), float("nan"), float("inf")),
  *("", "x", "7", "../../etc/passwd", "\ud800", "z" * 5000, [], [[]], [None], [1, "a"], {}, {"a": {}}, [{}], {"": 0}),
)
JSON_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


class Fuzzer:
  """Makes malformed copies of good things below `folder`; all by the random numbers of `seed`."""

  def __init__(self, folder: Path, seed: int):
    self.rng = random.Random(seed)
    self.folder = folder
    self.outside = folder / "outside"
    self.outside.mkdir()
    (self.outside / "secret.json").write_text('{"secret": 1}')

  def model_folder(self) -> Path:
    """A copy of the bundled base model with something wrong."""
    target = self.folder / "model"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(models.resolve("asset:micro_base"), target)
    kinds = (self.value, self.value, self.value, self.text, self.other_file, self.weights, self.weights, self.index)
    for _ in range(self.rng.choice((1, 1, 1, 2))):
      with contextlib.suppress(ValueError, RecursionError):  # what was malformed a moment ago
        self.rng.choice(kinds)(target)
    return target

  def value(self, folder: Path) -> None:
    """Another value somewhere in one of the JSON files."""
    path = folder / self.rng.choice(JSON_FILES)
    if not path.is_file():
      return
    content = node = json.loads(path.read_text(errors="replace") or "{}")
    while isinstance(node, dict | list) and node:
      key = self.rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
      if not isinstance(node[key], dict | list) or not node[key] or self.rng.random() < 0.3:
        node[key] = self.rng.choice(VALUES)
        break
      node = node[key]
    path.write_text(json.dumps(content))

  def text(self, folder: Path) -> None:
    """No JSON, or half of it, or too deep, in place of a JSON file."""
    path = folder / self.rng.choice((*JSON_FILES, "special_tokens_map.json", "added_tokens.json"))
    good = path.read_bytes() if path.is_file() else b"{}"
    deep = b'{"a":' * 100_000
    bad = (b"", b"[]", b"3", b"null", b"\xff\xfe", b"[" * 100_000, deep, b'{"vocab_size": ' + b"9" * 5000 + b"}")
    path.unlink(missing_ok=True)
    path.write_bytes(self.rng.choice((*bad, good[: self.rng.randrange(len(good) + 1)], self.flipped(good))))

  def flipped(self, data: bytes) -> bytes:
    """A few bytes changed."""
    changed = bytearray(data or b"x")
    for _ in range(self.rng.choice((1, 1, 4))):
      changed[self.rng.randrange(min(len(changed), self.rng.choice((300, len(changed)))))] ^= 1 << self.rng.randrange(8)
    return bytes(changed)

  def other_file(self, folder: Path) -> None:
    """A link out, a pipe, a device, a folder, a circle or a gigabyte where a file is expected."""
    names = (*JSON_FILES, "model.safetensors", "tokenizer.model", "LICENSE", "chat_template.jinja", "vocab.json")
    path = folder / self.rng.choice(names)
    path.unlink(missing_ok=True)
    how = self.rng.randrange(6)
    if how == 0:
      os.mkfifo(path)
    elif how == 1:
      path.mkdir()
    elif how == 2:
      with path.open("wb") as f:
        f.truncate(1 << 30)
    else:
      path.symlink_to((self.outside / "secret.json", "/dev/zero", path)[how - 3])

  def weights(self, folder: Path) -> None:
    """A weight file whose header lies, or that is cut."""
    path = folder / "model.safetensors"
    if not path.is_file():
      return
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    entry = header[self.rng.choice([name for name in header if name != "__metadata__"])]
    lies: tuple[Callable[[], object], ...] = (
      lambda: entry.update(data_offsets=[0, 10**15]),
      lambda: entry.update(data_offsets=[5, 1]),
      lambda: entry.update(data_offsets=[0, 8]),
      lambda: entry.update(shape=[10**12, 10**12]),
      lambda: entry.update(shape=[-1]),
      lambda: entry.update(dtype=self.rng.choice(("F64", "I8", "XX", 3))),
      lambda: header.update({"model.layers.9.x": entry}),
      lambda: header.pop("model.norm.weight", None),
    )
    choice = self.rng.randrange(len(lies) + 3)
    if choice < len(lies):
      lies[choice]()
      text = json.dumps(header).encode()
      path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    elif choice == len(lies):
      path.write_bytes((10 * 2**30).to_bytes(8, "little") + data[8:])
    elif choice == len(lies) + 1:
      path.write_bytes(data[: self.rng.randrange(len(data))])
    else:
      path.write_bytes(self.flipped(data))

  def index(self, folder: Path) -> None:
    """An index in place of the single file."""
    path = folder / "model.safetensors"
    if path.is_file():
      path.rename(folder / "model-00001-of-00001.safetensors")
    names = ("../outside/secret.json", "/etc/passwd", "model-00001-of-00001.safetensors", "x.safetensors", 3, None, ".")
    weight_map = {name: self.rng.choice(names) for name in ("model.norm.weight", "lm_head.weight")}
    content = self.rng.choice(({"weight_map": weight_map}, {"weight_map": []}, {}, [weight_map]))
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))

  def data_file(self) -> Path:
    """Problems or instances with something wrong."""
    row = {"id": "1", "question": "2 + 3 = ?", "answer": "5", "level": 1, "query": "2 + 3 = ?", "response": "It is 5."}
    rows = [dict(row, id=str(i)) for i in range(3)]
    for _ in range(self.rng.choice((1, 2, 4))):
      chosen = self.rng.choice(rows)
      chosen[self.rng.choice((*row, "solution", "subject", "surprise"))] = self.rng.choice(VALUES)
    lines = "".join(json.dumps(r) + "\n" for r in rows).encode()
    bad = (
      b"",
      b"\xff\xfe\n",
      b"[" * 100_000 + b"\n",
      b"null\n",
      b'{"question": "\\ud800", "answer": "1"}\n',
      b"\x00" * 100,
    )
    shapes = (lines, lines, lines, self.flipped(lines), lines[: self.rng.randrange(len(lines))], self.rng.choice(bad))
    path = self.folder / f"data{self.rng.choice(('.jsonl', '.jsonl', '.jsonl', '.parquet', '.arrow'))}"
    path.write_bytes(self.rng.choice(shapes))
    return path


def outcome(work: Callable[[], object]) -> str:
  """How a case ended: refused, read, a hang, or an error that is no words for a user."""

  def late(*_: object) -> None:
    raise TimeoutError

  signal.signal(signal.SIGALRM, late)
  signal.alarm(SECONDS)
  try:
    work()
  except UserError:
    return "refused"
  except TimeoutError:
    return "HANG"
  except Exception as error:
    return f"TRACEBACK {type(error).__name__}: {str(error)[:150]}"
  finally:
    signal.alarm(0)
  return "read"


def load_and_copy(folder: Path, target: Path) -> None:
  """What importing a folder reads, and what it copies."""
  models.weights_hash(folder)
  _, tokenizer = models.load_any(folder)
  tokenizer.encode("2 + 3 = 5")
  tokenizer.save(target)


def read_data(path: Path) -> None:
  """The file as problems, and as instances."""
  first = outcome(lambda: user_files.load(path))
  if path.suffix == ".jsonl":
    for chunk in chunks.chunks([str(path)]):
      chunk.instances()
  if first.startswith(("HANG", "TRACEBACK")):
    raise RuntimeError(first)
  if first == "refused":
    raise UserError("refused", where=path)


def fuzz(folders: int, files: int, seed: int) -> dict[str, collections.Counter[str]]:
  """Outcomes of so many folders and files, by kind; `wrote outside` counts what appeared where nothing belongs."""
  found = {"folders": collections.Counter[str](), "files": collections.Counter[str]()}
  with tempfile.TemporaryDirectory() as temporary:
    fuzzer = Fuzzer(Path(temporary), seed)
    target = Path(temporary) / "copy"
    for _ in range(folders):
      target.mkdir()
      made = fuzzer.model_folder()
      found["folders"][outcome(lambda made=made: load_and_copy(made, target))] += 1
      if any(b"secret" in path.read_bytes() for path in target.iterdir()):
        found["folders"]["COPIED A LINK"] += 1
      shutil.rmtree(target)
    for _ in range(files):
      found["files"][outcome(lambda: read_data(fuzzer.data_file()))] += 1
    names = {path.name for path in Path(temporary).iterdir()} - {"outside", "model", "data.jsonl", "data.parquet"}
    if names - {"data.arrow"} or len(list(fuzzer.outside.iterdir())) != 1:
      found["folders"]["WROTE OUTSIDE"] += 1
  return found


def run(arguments: list[str]) -> Iterator[dict[str, Any]]:
  """Rows: cases, and those among them that ended in anything but words or a reading."""
  parser = argparse.ArgumentParser("skymath bench malformed_files")
  parser.add_argument("--folders", type=int, default=500)
  parser.add_argument("--files", type=int, default=500)
  parser.add_argument("--seed", type=int, default=0)
  chosen = parser.parse_args(arguments)
  for kind, outcomes in fuzz(chosen.folders, chosen.files, chosen.seed).items():
    bad = sum(count for name, count in outcomes.items() if name not in ("refused", "read"))
    settings = {"outcomes": dict(outcomes)}
    yield {"name": f"malformed.{kind}", "value": sum(outcomes.values()), "unit": "cases", "settings": settings}
    yield {"name": f"malformed.{kind}.bad", "value": bad, "unit": "hangs, tracebacks or copies of what lies elsewhere"}
