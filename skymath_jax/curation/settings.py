"""Every choice of curation."""

import dataclasses

SENSITIVITY = (10, 13)  # n-gram lengths that are reported beside the one that decides
QUALITY = ("gold", "majority", "verdict")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """The defaults are those of the paper, and of the project's notes where it is silent.

  Attributes:
    ngram: whitespace words shared with a test item that make a leak.
    fuzzy: likeness (`FuzzyIndex`) of a query and a test question that makes a leak; 0 = no such check.
    near_duplicate: Jaccard similarity that makes a near-duplicate; 0 = leave near-duplicates in.
    quality: filters, of QUALITY: drop what differs from a known gold answer, what differs from the answer that most
      responses to the query give, what the verifier found wrong.
    hard: share of the queries that are kept, the hardest first; 0 = all.
    responses_per_query: at most so many responses to one query; 0 = no limit.
    max_characters: of query + response; 0 = no limit.
    max_tokens: of query + response; 0 = no limit.
    sensitivity: n-gram lengths reported beside `ngram`.
  """

  ngram: int = 30
  fuzzy: float = 0.0
  near_duplicate: float = 0.8
  quality: tuple[str, ...] = ()
  hard: float = 0.0
  responses_per_query: int = 0
  max_characters: int = 16_384
  max_tokens: int = 0
  sensitivity: tuple[int, ...] = SENSITIVITY
