"""The command blocks of README.md and docs/*.md, and what the comment above a block says that it needs."""

import dataclasses
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
NEEDS = {"cloud", "gpu", "weights", "hours", "data", "libtpu", "server", "background"}
_BLOCK = re.compile(r"(?:<!-- (?:needs|runs): ([\w, ]+) -->\n)?```sh\n(.*?)```", re.DOTALL)
# README's blocks carry no comments: its first screen stays clean. What they need, by a word in them.
README = {"make quickstart": "hours", "skywork_": "weights", "my_problems": "hours", "make ": "hours"}


@dataclasses.dataclass(frozen=True)
class Block:
  """One ```sh block: its page, first line, text, and what it needs ("" = nothing but this repository)."""

  page: str
  line: int
  text: str
  needs: str

  @property
  def name(self) -> str:
    return f"{self.page}:{self.line}"

  def commands(self) -> list[list[str]]:
    """Its simple commands, one a line, as words; here-documents, variables before a command and pipes taken off."""
    text = re.sub(r"<<'(\w+)'\n.*?\n\1\n", "\n", self.text, flags=re.DOTALL).replace("\\\n", " ")
    found = []
    for line in text.splitlines():
      words = shlex.split(line, comments=True)
      while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
      for stop in ("|", "||", "&&", ">", "<<END"):
        words = words[: words.index(stop)] if stop in words else words
      found += [words] if words else []
    return found


def blocks() -> list[Block]:
  """All blocks of all pages."""
  found = []
  for page in PAGES:
    text = page.read_text()
    for match in _BLOCK.finditer(text):
      needs = match[1] or ""
      if page.name in ("README.md", "CONTRIBUTING.md") and page.parent == ROOT and not needs:
        needs = next((need for word, need in README.items() if word in match[2]), "")
      line = text.count("\n", 0, match.start(2)) + 1
      found.append(Block(str(page.relative_to(ROOT)), line, match[2], needs))
  return found
