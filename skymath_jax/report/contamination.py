"""What `skymath decontaminate` found, side by side: each row beside the test problem, the shared text marked."""

import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from skymath_jax.curation import Finding
from skymath_jax.report import html
from skymath_jax.report.read import Row

SHOWN = 200  # hits on the page; the file has all
SHORTEST = 8  # characters of a shared text that is marked
KINDS = {
  "judged": "judged to be the same problem",
  "exact": "equal texts",
  "ngram": "a long run of words in common",
  "embedded": "the whole question inside another text",
  "fuzzy": "very much alike",
}


def render(summary: Row, hits: Sequence[Finding], nearest: Sequence[Finding]) -> str:
  """The page as text."""
  context = {
    "summary": summary,
    "kinds": KINDS,
    "hits": [_side_by_side(finding) for finding in hits],
    "nearest": [_side_by_side(finding) for finding in nearest],
  }
  return html.environment(html.FOLDER).get_template("contamination.html").render(context)


def _side_by_side(finding: Finding) -> dict[str, Any]:
  hit = finding.hit
  ours = finding.row.response if hit is not None and hit.field == "response" else finding.row.query
  theirs = hit.row if hit is not None else finding.nearest
  shared = hit.shared if hit is not None and hit.kind in ("ngram", "embedded", "exact") else ""
  return {
    "where": finding.row.where,
    "kind": "judged" if finding.same else hit.kind if hit is not None else "",
    "field": hit.field if hit is not None else "query",
    "likeness": finding.likeness,
    "same": finding.same,
    "test": theirs,
    "ours": marked(ours, shared),
    "theirs": marked(theirs.text, shared),
  }


def marked(text: str, shared: str) -> Markup:
  """The text, escaped, with the first place where it says `shared` marked, whatever its case and white space."""
  text = html.clean(text)
  words = html.clean(shared).split()
  found = None
  if sum(map(len, words)) >= SHORTEST:
    found = re.search(r"\s+".join(map(re.escape, words)), text, re.IGNORECASE)
  if found is None:
    return escape(text)
  start, end = found.span()
  return Markup("{}<mark>{}</mark>{}").format(text[:start], text[start:end], text[end:])
