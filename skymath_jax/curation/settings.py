"""Every choice of curation."""

import dataclasses
from typing import Any

from skymath_jax.config import Curation

MAX_THOUGHT = 32_768  # characters, some 10,000 tokens
MAX_CHARACTERS = 16_384  # of query and response: a few times what a context of training holds
SENSITIVITY = (10, 13)  # n-gram lengths that are reported beside the one that decides


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What the rules are told. The first six are the config's, which has their defaults.

  Attributes:
    ngram: whitespace words shared with a test item that make a leak.
    fuzzy: likeness (`FuzzyIndex`) of a query and a test question that makes a leak; 0 = no such check.
    near_duplicate: Jaccard similarity that makes a near-duplicate; 0 = leave near-duplicates in.
    quality: names of the filters (`rules.base.Filter`) that are applied.
    hard: share of the queries that are kept, the hardest first; 0 = all.
    responses_per_query: at most so many responses to one query; 0 = no limit.
    max_characters: of query + response; 0 = no limit.
    max_tokens: of query + response; 0 = no limit.
    max_thought: characters of a thought, where the filter `thoughts` is applied.
    sensitivity: n-gram lengths reported beside `ngram`.
  """

  ngram: int
  fuzzy: float
  near_duplicate: float
  quality: tuple[str, ...]
  hard: float
  responses_per_query: int
  max_characters: int = MAX_CHARACTERS
  max_tokens: int = 0
  max_thought: int = MAX_THOUGHT
  sensitivity: tuple[int, ...] = SENSITIVITY

  @classmethod
  def from_config(cls, config: Curation, **changes: Any) -> "Settings":
    """What `config` says; `changes` come instead of it, or of the defaults above."""
    names = {field.name for field in dataclasses.fields(cls)}
    return cls(**{key: value for key, value in vars(config).items() if key in names} | changes)
