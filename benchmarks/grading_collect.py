"""Pairs of answers with known verdicts, read from checkouts of public projects that test their graders.

    skymath bench grading_collect CHECKOUTS OUT.jsonl

CHECKOUTS holds git repositories (work trees, or bare ones in `repo`) in folders named OWNER+NAME; those that are
missing are passed over. Nothing of them is run: tests are read as syntax trees, and only literals are evaluated.
Rows: {"gold", "pred" | "response", "same", "source", "held_out"}; a third is held out by hash, so that rules can be
written while looking at the rest only. Pairs on which two projects disagree are left out.
"""

import argparse
import ast
import hashlib
import json
import pathlib
import re
import subprocess
from collections.abc import Iterator
from typing import Any

Case = tuple[Any, Any, Any]  # gold, text, verdict
GOLDS = ("gold", "target", "reference", "ground_truth")
TEXTS = ("pred", "answer", "prediction")
VERDICTS = ("expected", "result", "want")
COMPARED = frozenset(
  "is_equiv math_equal symbolic_equal grade_answer_verl grade_answer_sympy grade_answer_mathd judge_answer eq".split()
)
SENTENCE = re.compile(
  r"[A-Za-z]{3,} +[a-z]{2,}|[\u4e00-\u9fff]{4}|[^\W\d_\x00-\u03ff]{2,} [^\W\d_\x00-\u03ff]{2,}"
  r"|donc|boxed|####|[Aa]nswer"
)
MATHS = re.compile(r"\$[^$]*\$|\\text\{[^}]*\}")


class _PlainNames(ast.NodeTransformer):
  """Reads `Language.FRENCH` as a string, so that a row of a table stays a literal."""

  def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
    return ast.copy_location(ast.Constant(node.attr), node)


def literal(node: ast.AST) -> Any:
  """The value of a literal; None for anything that would have to be run."""
  try:
    return ast.literal_eval(_PlainNames().visit(node))
  except (ValueError, SyntaxError, TypeError):
    return None


def tables(source: str) -> Iterator[tuple[str, str, list[str], list[tuple]]]:
  """(function, its source, names, rows) of every `pytest.mark.parametrize`."""
  for function in ast.walk(ast.parse(source)):
    for call in getattr(function, "decorator_list", ()):
      if isinstance(call, ast.Call) and len(call.args) >= 2 and isinstance(call.args[1], ast.List | ast.Tuple):
        names = literal(call.args[0])
        names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names or ())
        rows = [row if isinstance(row, tuple) else (row,) for row in map(literal, call.args[1].elts) if row is not None]
        yield function.name, ast.get_source_segment(source, function) or "", names, rows


def from_tables(source: str) -> Iterator[Case]:
  """Rows of tables that name a gold, a text and a verdict, or whose test says one verdict for all."""
  for name, body, names, rows in tables(source):
    gold, text, verdict = (next((n for n in names if n in wanted), None) for wanted in (GOLDS, TEXTS, VERDICTS))
    for row in rows:
      fields = dict(zip(names, row, strict=False))
      if names == ["output_pair"]:
        yield row[-1], row[0], "incorrect" not in name
      if (
        fields.get("strict") is False
        or fields.get("allow_set_relation_comp") is False
        or fields.get("precision", 6) < 6
      ):
        continue  # options that another convention switches on
      if gold and text and verdict:
        yield _single(fields[gold]), _single(fields[text]), fields[verdict]
      elif names == ["answer", "target"] and ('"correct"' in body) != ('"incorrect"' in body):
        yield fields["target"], fields["answer"], '"correct"' in body


def _single(value: Any) -> Any:
  return value[0] if isinstance(value, list) and len(value) == 1 else value


def from_asserts(source: str) -> Iterator[Case]:
  """`assert is_equiv(a, b)`, `self.assertFalse(…)`, `test_eq(x.eq(a, b), True)`, also with `not` or `is False`."""
  for node in ast.walk(ast.parse(source)):
    name = getattr(getattr(node, "func", None), "attr", getattr(getattr(node, "func", None), "id", ""))
    if isinstance(node, ast.Assert):
      yield from _compared(node.test, True)
    elif name in {"assertTrue", "assertFalse"} and isinstance(node, ast.Call) and node.args:
      yield from _compared(node.args[0], name == "assertTrue")
    elif name in {"assertEqual", "test_eq"} and isinstance(node, ast.Call) and len(node.args) == 2:
      verdict = literal(node.args[1])
      if verdict in (True, False):
        yield from _compared(node.args[0], bool(verdict))


def _compared(test: ast.AST, verdict: bool) -> Iterator[Case]:
  if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
    for part in test.values:
      yield from _compared(part, verdict)
  elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
    yield from _compared(test.operand, not verdict)
  elif isinstance(test, ast.Compare) and literal(test.comparators[0]) in (True, False):
    yield from _compared(test.left, verdict == bool(literal(test.comparators[0])))
  elif isinstance(test, ast.Call) and len(test.args) >= 2 and not test.keywords:
    name = getattr(test.func, "attr", getattr(test.func, "id", ""))
    if name in COMPARED:
      yield literal(test.args[1]), literal(test.args[0]), verdict


def from_assignments(source: str) -> Iterator[Case]:
  """MARIO_EVAL's style: two variables are set, then asserted to be equivalent or not."""
  for function in ast.walk(ast.parse(source)):
    values: dict[str, Any] = {}
    for statement in getattr(function, "body", ()) if isinstance(function, ast.FunctionDef) else ():
      if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        values[statement.targets[0].id] = literal(statement.value)
      call = getattr(statement, "value", None)
      if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "assertTrue" and "test_in" in values:
        negative = "not_equiv" in ast.unparse(call)
        yield values.get("test_out"), values.get("test_in"), not negative


def from_notebook(text: str) -> Iterator[Case]:
  cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
  for cell in cells:
    if "test_eq" in cell:
      yield from from_asserts(re.sub(r"(?m)^[#%].*$", "", cell))


def from_inspect(text: str) -> Iterator[Case]:
  for case in json.loads(text):
    yield case["target"], case["output"], case["expected"] == "C"


def from_hardverify(text: str) -> Iterator[Case]:
  for case in json.loads(text):
    yield case["ground_truth"], case.get("fn_output") or None, True
    yield case["ground_truth"], case.get("tn_output") or None, False


def from_olympiad(text: str) -> Iterator[Case]:
  for case in json.loads(text):
    for answer in case["Ans"]:
      yield case["GT"], answer["answer"], answer["equal"]


def from_kas(text: str) -> Iterator[Case]:
  """Khan Academy's `expect("a").not.toEqualExpr("b")`."""
  string = r'"((?:[^"\\]|\\.)*)"'
  for match in re.finditer(rf"expect\(\s*{string},?\s*\)\s*\.(not\.)?toEqualExpr\(\s*{string}", text):
    answer, gold = (ast.literal_eval(f'"{part}"') for part in (match[1], match[3]))
    yield gold, answer, not match[2]


_MAXIMA = re.compile(  # what only a computer algebra system reads, or would have to carry out
  r'[\["#]|:=|%or|%and|%union|abs_|true|false|unit|noun|not|implies|x[n]?or|none|all|minf'
  r"|(?:ev|int|root|sum|expand|simp|map|diff|round|[co][co]|[a-z]{6,})\("
)


def from_stack(text: str) -> Iterator[Case]:
  """STACK's table of algebraic equivalence, as far as people write so."""
  quoted = r"'((?:[^'\\]|\\.)*)'"
  for match in re.finditer(rf"\[\s*'AlgEquiv',\s*'',\s*{quoted},\s*{quoted},\s*([01])", text):
    if not _MAXIMA.search(match[1] + " " + match[2]):
      answer, gold = (re.sub(r"%(pi|e|i)\b", r"\1", part) for part in (match[1], match[2]))
      yield gold, answer, match[3] == "1"


def from_named_parameters(text: str) -> Iterator[Case]:
  pattern = r"given_answer=(.*?),\s*ground_truth=(.*?),\s*expected=(True|False)"
  for match in re.finditer(pattern, text, re.DOTALL):
    yield ast.literal_eval(match[2]), ast.literal_eval(match[1]), match[3] == "True"


SOURCES = (
  ("huggingface+Math-Verify", r"tests/test_(all|boxed|numina_cases|open_thoughts|yujianll)\.py", from_tables),
  ("huggingface+lighteval", r"tests/unit/metrics/test_extractive_match\.py", from_tables),
  ("NVIDIA+NeMo-Skills", r"tests/test_math_equal\.py", from_tables),
  ("UKGovernmentBEIS+inspect_ai", r"tests/scorer/test_math\.py", from_tables),
  ("UKGovernmentBEIS+inspect_ai", r"tests/scorer/math_cases\.json", from_inspect),
  ("uw-nsl+TinyV", r"benchmarks/HardVerify-Math\.json", from_hardverify),
  ("OpenBMB+OlympiadBench", r"eval/scoring_examples\.json", from_olympiad),
  ("MARIO-Math-Reasoning+MARIO_EVAL", r"math_evaluation/tests/test_is_equiv\.py", from_assignments),
  ("hkust-nlp+dart-math", r"nbs/04_eval\.ipynb", from_notebook),
  ("scitix+sieval", r"tests/unit/community/test_\w+\.py", from_tables),
  ("scitix+sieval", r"tests/unit/community/test_\w+\.py", from_asserts),
  ("THUDM+slime", r"tests/test_rm_\w+\.py", from_asserts),
  ("NovaSky-AI+SkyThought", r"tests/evals/util/test_math_parsing\.py", from_tables),
  ("Khan+perseus", r"packages/kas/src/__tests__/comparing\.test\.ts", from_kas),
  ("maths+moodle-qtype_stack", r"tests/fixtures/answertestfixtures\.class\.php", from_stack),
  ("google+tunix", r"tests/.*math_utils.*\.py", from_named_parameters),
)


def git(repository: pathlib.Path, *arguments: str) -> str:
  path = repository / "repo" if (repository / "repo").is_dir() else repository
  done = subprocess.run(["git", "-C", str(path), *arguments], capture_output=True, check=True)
  return done.stdout.decode("utf-8", "replace")


def collected(checkouts: pathlib.Path) -> Iterator[dict[str, Any]]:
  """All rows, with doubles."""
  for folder, pattern, read in SOURCES:
    if not (checkouts / folder).is_dir():
      continue
    for path in git(checkouts / folder, "ls-tree", "-r", "--name-only", "HEAD").splitlines():
      for gold, text, verdict in (
        read(git(checkouts / folder, "show", f"HEAD:{path}")) if re.fullmatch(pattern, path) else ()
      ):
        if isinstance(gold, str | int | float) and isinstance(text, str | int | float) and verdict in (True, False):
          gold, text = str(gold), str(text)
          key = "response" if SENTENCE.search(MATHS.sub("", text)) and read is not from_hardverify else "pred"
          held_out = int(hashlib.sha256(f"hold{gold}\0{text}".encode("utf-8", "replace")).hexdigest(), 16) % 3 == 0
          yield {
            "gold": gold,
            key: text,
            "same": bool(verdict),
            "source": folder.partition("+")[2],
            "held_out": held_out,
          }


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """Writes the pairs; one row says how many."""
  parser = argparse.ArgumentParser("skymath bench grading_collect")
  parser.add_argument("checkouts", type=pathlib.Path)
  parser.add_argument("out", type=pathlib.Path)
  chosen = parser.parse_args(words)
  rows: dict[tuple[str, str], dict[str, Any]] = {}
  disputed = set()
  for row in collected(chosen.checkouts):
    key = (row["gold"], row.get("pred", row.get("response")))
    if rows.setdefault(key, row)["same"] != row["same"]:
      disputed.add(key)
  kept = [row for key, row in rows.items() if key not in disputed]
  with chosen.out.open("w", encoding="utf-8") as out:
    out.writelines(json.dumps(row) + "\n" for row in kept)
  facts = {"same": sum(r["same"] for r in kept), "held_out": sum(r["held_out"] for r in kept)}
  yield {"name": "grading_collect", "value": len(kept), "unit": "pairs", "settings": facts}
