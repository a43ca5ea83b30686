"""One thing that was found."""

import dataclasses

SEVERITIES = ("error", "warning", "note")  # error: what comes out is wrong; warning: it may be; note: for your eyes


@dataclasses.dataclass(frozen=True)
class Finding:
  """What is wrong, and what to do about it; `check` is a word by which it is known."""

  severity: str
  check: str
  what: str
  remedy: str = ""

  def __str__(self) -> str:
    return f"{self.severity:<8}{self.check}: {self.what}" + (f"\n{'':8}→ {self.remedy}" if self.remedy else "")
