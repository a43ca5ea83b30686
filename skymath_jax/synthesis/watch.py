"""Whether what the teacher says is of use: a pass that rejects more than it may stops early and says why."""

import collections
import math
from collections.abc import Iterable

from skymath_jax.errors import UserError
from skymath_jax.records import Instance
from skymath_jax.synthesis.methods import Rejected
from skymath_jax.synthesis.outcomes import Outcomes

MIN_OUTCOMES = 100  # before a share says anything
DEVIATIONS = 4.0  # above the share that is allowed, before the end is known

# Beginning of a reason → what is most likely to be done about it
REMEDIES = {
  "only_thought": "the endpoint sends thoughts and no answer: if the answer stands in another field, name it "
  """(--config.teacher.parameters='{"answer": "reasoning_content"}'), else raise config.synthesis.max_tokens""",
  "thought_unclosed": "the thoughts are cut off: raise config.synthesis.max_tokens, or let the model think less "
  """(--config.teacher.parameters='{"body": {"reasoning_effort": "low"}}')""",
  "truncated": "raise config.synthesis.max_tokens, or the endpoint's own limit",
  "unfinished": "the endpoint cuts answers off: see its filters and limits",
  "empty": """name the field of the answer (--config.teacher.parameters='{"answer": "…"}')""",
  "control": "the endpoint sends raw tokens: let it skip special tokens",
  "error": "see to the endpoint",
}
OTHERWISE = "the teacher does not keep to the form it is asked for: take another, or config.synthesis.prompts=few_shot"


class Watch:
  """Looks on at one pass.

  Args:
    outcomes: of the pass.
    max_rejected: share of them that may be rejected; 1 allows all.
    where: the pass, as messages say it.
  """

  def __init__(self, outcomes: Outcomes, max_rejected: float, where: str):
    self._outcomes = outcomes
    self._max_rejected = max_rejected
    self._where = where
    self._example: dict[str, Rejected] = {}

  def look(self, made: Iterable[Instance | Rejected], *, at_end: bool = False) -> None:
    """Looks at what was made last.

    Raises:
      UserError: too much is rejected; names the commonest reason with an example, and what to do.
    """
    for each in made:
      if isinstance(each, Rejected):
        self._example.setdefault(each.reason.partition(":")[0], each)
    rejected, total = self._outcomes.share
    allowed = self._max_rejected * total
    margin = 0.0 if at_end else DEVIATIONS * math.sqrt(allowed * max(0.0, 1 - self._max_rejected))
    if rejected > allowed + margin and (at_end or total >= MIN_OUTCOMES):
      raise self._error(rejected, total)

  def _error(self, rejected: int, total: int) -> UserError:
    reasons: collections.Counter[str] = collections.Counter()
    for found in self._outcomes.rejected_by_method.values():
      reasons.update(found)
    listed = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(4))
    reason = reasons.most_common(1)[0][0]
    example = self._example[reason]
    said = " ".join((example.text or example.reason).split())[:200]
    remedy = next((text for start, text in REMEDIES.items() if reason.startswith(start)), OTHERWISE)
    return UserError(
      f"{rejected:,} of {total:,} results are rejected ({listed}), more than config.synthesis.max_rejected "
      f"({self._max_rejected:g}) allows; such as: {said!r}",
      where=self._where,
      remedy=f"{remedy}; or allow more by config.synthesis.max_rejected. Every answer so far is kept",
    )
