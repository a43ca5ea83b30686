"""Numbers of a data set for its card: how much there is of each method, level and language, and how long texts are."""

import collections
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from skymath_jax.records import Instance

_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_LETTER = re.compile(r"[^\W\d_]")
PERCENTILES = (0, 5, 25, 50, 75, 95, 99, 100)
LENGTHS = ("query_words", "response_words", "tokens")
BIN_WORDS = 25  # width of a bar of the length histogram
_COUNTS = ("by_method", "by_level", "by_language", "by_pass", "gold_match")


def language(text: str) -> str:
  """`zh` where Chinese characters are a tenth of the letters, `en` where the letters are ASCII, else `other`.

  A guess from the script: what it tells apart are the languages of the catalog.
  """
  if text.isascii():
    return "en"
  letters = _LETTER.findall(text)
  chinese = sum(1 for letter in letters if _CHINESE.match(letter))
  if chinese > len(letters) / 10:
    return "zh"
  return "en" if sum(letter.isascii() for letter in letters) >= 0.9 * len(letters) else "other"


@dataclasses.dataclass(frozen=True)
class Profile:
  """Of one part: counts by kind, and the lengths of each row, int32."""

  rows: int
  counts: dict[str, collections.Counter[str]]
  lengths: dict[str, np.ndarray]


class Counter:
  """Takes instances one by one."""

  def __init__(self) -> None:
    self._counts: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in _COUNTS}
    self._lengths: dict[str, list[int]] = {name: [] for name in LENGTHS}

  def add(self, instance: Instance) -> None:
    """Counts one instance."""
    found = {
      "by_method": instance.method,
      "by_level": str(instance.level),
      "by_language": language(instance.query),
      "by_pass": str(instance.synthesis_pass),
      "gold_match": {None: "unknown", True: "true", False: "false"}[instance.gold_match],
    }
    for name, key in found.items():
      self._counts[name][key] += 1
    lengths = len(instance.query.split()), len(instance.response.split()), instance.tokens or 0
    for name, length in zip(LENGTHS, lengths, strict=True):
      self._lengths[name].append(length)

  def result(self) -> Profile:
    """What was counted."""
    lengths = {name: np.array(values, np.int32) for name, values in self._lengths.items()}
    return Profile(len(lengths["tokens"]), self._counts, lengths)


def summary(parts: Sequence[Profile]) -> dict[str, Any]:
  """The parts together, as they stand in `summary.json`.

  `lengths` are percentiles; `histogram` counts words of query + response in bars of BIN_WORDS, the last of which holds
  all longer ones.
  """
  counts = {
    name: dict(sorted(sum((part.counts[name] for part in parts), collections.Counter()).items())) for name in _COUNTS
  }
  empty = np.zeros(0, np.int32)
  lengths = {name: np.concatenate([empty, *(part.lengths[name] for part in parts)]) for name in LENGTHS}
  words = lengths["query_words"] + lengths["response_words"]
  return {
    **counts,
    "tokens": int(lengths["tokens"].sum(dtype=np.int64)),
    "lengths": {name: _percentiles(values) for name, values in lengths.items()},
    "histogram": np.bincount(np.minimum(words // BIN_WORDS, 40), minlength=1).tolist() if len(words) else [],
  }


def _percentiles(values: np.ndarray) -> dict[str, float]:
  if not len(values):
    return {}
  found = np.percentile(values, PERCENTILES).tolist()
  return {"mean": round(float(values.mean()), 1), **{f"p{p}": v for p, v in zip(PERCENTILES, found, strict=True)}}
