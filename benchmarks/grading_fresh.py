"""A held-out collection for the grader: what the tests of projects that nobody looked at while writing rules assert.

    skymath bench grading_fresh CHECKOUTS OUT_FOLDER

CHECKOUTS holds git repositories (work trees, or bare ones in `repo`) in folders named OWNER+NAME; those of `SOURCES`
that are missing are passed over. Tests are read as syntax trees and followed as far as literals go: assignments, loops
over literal tables, `parametrize`, and the assertions at the end; nothing of them is run. OUT_FOLDER gets `pairs.jsonl`
({"gold", "pred" | "response", "same", "source"}) and `extraction.jsonl` ({"response", "expected", "source"}). The cases
are other people's work and stay out of this repository; benchmarks/results/grading.md has the counts.
"""

import argparse
import ast
import itertools
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from skymath_jax.benchmarks.grading_collect import MATHS, SENTENCE, git, literal

COMPARES = re.compile(
  r"equal|equiv|match|grade|verif|compar|correct|score|same|reward|judge|check|evaluation_function|\beq\b|is_close"
)
EXTRACTS = re.compile(r"extract|parse|boxed|rescue|final_answer|answer_of|last_number")
NO_GRADER = re.compile(r"normal|strip|similar|schema|format|token|type|code|hash|majority|prompt|json_obj|ratio")
GOLDS = ("gold", "answer", "answers", "reference", "ground_truth", "expected", "label", "target", "solution", "truth")
TEXTS = ("completions", "completion", "response", "prediction", "pred", "output", "solution_str", "text", "predicted")
OPTIONS = frozenset({"strict_syntax", "elementary_functions"})  # what switches no other convention on
LABELS = re.compile(r"[a-z0-9]+_[a-z_0-9]+|gsm8k|gen|correct_answer|uncertain")  # arguments that are no answers
EQUALITIES = re.compile(
  r"(?i)equiv|^tests$|identities|equal|relations"
)  # tables of pairs that are meant to be the same or not
ONLY_PROGRAMS = re.compile(  # what only a computer algebra system reads, as in the collection of STACK's table
  r"summation|factorial2|linesegment|elementof|plus_minus|sinc|atan2|\b(?:sum|int)\(.*, ?\(|\*\*\d\(|\bE\b|[<>]=?>"
)
NEGATIVE = re.compile(
  r"(?i)(?:^|_)(?:un|no|non|not|diff|differ\w*|wrong|false|reject\w*|mis\w*|in)(?:_|equal|equiv|corr|match|$)"
)
SECOND = (  # tests of a project of the second round
  r"tests/(?:\w+/)*test_\w*(?:answer|math|equiv|grad|verif|extract|reward|judge|check)\w*\.py"
)
THIRD = (  # … of the third
  r"(?:.*/)?test_\w*(?:answer|math|equiv|grad|verif|extract|reward|judge|check|eval|gsm|scor|pars|boxed|metric|normal)"
  r"\w*\.py|(?:.*/)?\w*(?:math|answer|verif|grader|reward|extract)\w*_test\.py"
)
SOURCES = (
  ("Doenet+math-expressions", r"packages/math-expressions-js-compat/spec/slow_math-expressions\.spec\.ts"),
  ("cortex-js+compute-engine", r"test/compute-engine/(?:equal|identically-equal|verify)\.test\.ts"),
  ("lambda-feedback+compareExpressions", r"app/(?:tests/)?\w*evaluation_test\w*\.py"),
  ("VladimirKambovski+test-time-compute-allocation", r"tests/(?:fixtures/golden_200\.json|test_answer\w+\.py)"),
  ("heqi0511+posttrain-lab", r"tests/(?:fixtures/rewards/\w+\.jsonl|test_math_reward\.py)"),
  ("Athe-kunal+labs-molt", r"tests/unit/test_math_grader\.py"),
  ("Iman998+persian-llm-leaderboard", r"tests/test_math\w+\.py"),
  ("T41K1+LLM-jp-4-RL", r"tests/test_ground_truth_utils\.py"),
  ("StephenQSstarThomas+Skill-TTRL", r"tests/test_(?:math_grader|majority_vote|output_parser)\.py"),
  ("ai-twinkle+Eval", r"tests/test_math_eval\.py"),
  ("Molight1007+math-ai-evaluator", r"tests/test_(?:extract|verifier)\.py"),
  ("ctrl-gaurav+Debate-Train-Evolve", r"tests(?:/test_answer_extraction)?\.py"),
  ("leukocy+llm-test", r"tests/test_answer_parser\.py"),
  ("linnhuang+Qwen3-4b-Instruct_Test", r"tests/test_(?:answer_parser|math_reward)\.py"),
  ("yan-chuan-k+MathAgent", r"tests/test_answer_extraction\.py"),
  ("zhushanwen321+llm-api-daily-benchmark", r"tests/test_(?:math_scorer|response_parser)\.py"),
  ("thinking-machines-lab+tinker-cookbook", r"tinker_cookbook/(?:recipes/math_rl|eval/benchmarks)/\w+_test\.py"),
  ("theworker02+open-reason", r"tests/test_math_verify\.py"),
  ("apratim-mishra+llm-finetuning", r"tests/test_(?:math_reward|pipeline_smoke)\.py"),
  ("atomwalk12+linalg-zero", r"tests/grpo/test_math_verify\.py"),
  ("inclusionAI+AReaL", r"tests/test_math_verify_reward\.py|examples/tir/tests/test_tir\.py"),
  ("NVIDIA-NeMo+Gym", r"resources_servers/(?:math_\w+|string_match|bbq|equivalence_rule)/tests/test_\w+\.py"),
  ("PrimeIntellect-ai+verifiers", r"tests/test_(?:math_rubric|maybe_think_parser|parser|think_parser)\.py"),
  ("ModelCloud+Evalution", r"tests/test_(?:gsm8k|scorers|hendrycks_math|mgsm|mathqa|gsm_plus)\w*\.py"),
  ("huggingface+open-r1", r"tests/test_rewards\.py"),
  ("huggingface+trl", r"tests/test_rewards\.py"),
  ("Javendean+AgentAIMO", r"tests/test_\w+\.py"),
  ("modelscope+evalscope", r"tests/(?:test_multi_choices|benchmark/test_(?:count_qa|logic_vista|phyx|slake))\.py"),
  ("open-compass+opencompass", r"tests/(?:datasets|openicl)/test_\w+\.py"),
  ("anvie+evonic-llm-eval", r"tests/test_answer_extractor\.py"),
  ("Severus-C+NaviMath", r"tests/test_answer_utils\.py"),
  ("charbelfakh+NudgeMath", r"tests/test_answer_match\.py"),
  ("taivu1998+PRM-Math", r"tests/test_\w*(?:answer|grad|math|verif)\w*\.py"),
  ("qiuxiuhao+MathAlign-DPO", r"tests/test_\w*(?:answer|math|verif)\w*\.py"),
  ("YuZh98+finetune-gsm8k", r"tests/test_extract_answer\.py"),
  ("axiaoquan+cot-lab", r"tests/test_extract_answer\.py"),
  ("fyremael+SSD_AIMO3", r"tests/test_extract_answer\.py"),
  ("Jun2028+DeepConf", r"tests/test_extract_answer\.py"),
  ("Utkarsh-Sinha0+Kaggle-Math", r"tests/test_answer_extract\.py"),
  ("Thiggel+synthetic-RLVL", r"tests/test_answer_matching\.py"),
  ("0x0shephard+latent-reasoning", r"tests/test_answer_extract\.py"),
  ("ademcodesproducts+contamination-audit", r"tests/test_answer_extract\.py"),
  ("tongruiliu+Guided-GRPO", r"tests/test_math_reward\.py"),
  ("flower418+retool", r"tests/test_math_reward\.py"),
  ("vegaction+nanorllm", r"tests/test_math_reward\.py"),
  ("YuFish131416+CS6493-NLP-Group-Project--Mathematical-Reasoning-in-LLMs", r"tests/test_answer_extractor\.py"),
  ("jianzhnie+LLMEval", r"tests/.*test_\w*(?:math|extract|score|parser)\w*\.py"),
  *((name, SECOND) for name in (  # a second round, after what the first had shown was mended
    "OptimisedMath+optimisedmath", "OckBench+OckBench", "AaronYu94+TA-MPQ", "CedricEPFL+agent-xray",
    "tongt1+multiagent", "CORBiH+ai-matematicari", "Danau5tin+calculator_agent_rl", "Tristan-alpha+Temp-Selector",
    "pranav100000+benchpress", "sudsho+grpo-rlvr-reasoning", "aganthos+clawloop", "dawsonblock+vibe-thinker",
    "BrenchCC+R1-GRPO-Qwen2.5-RL", "freesolo-co+flash", "V1CeVersaa+Whetstone",
    "MaxIv25+ReasoningAblationStudyMIPT2026", "daichira-gif+LLM-eval",
  )),
  *((name, THIRD) for name in (  # read while mending, and two rounds that were held out, in this order
    "BirgerMoell+oellm-rlvr", "Hohyeon-28+qwentest", "Jiangjingyi213+rasp-lrm", "MaruyamaAya+Hiro_Research",
    "OpenInterpretability+mechreward", "a-canary+Conjecture", "asdjasdsad+math-tutor-agent",
    "chai-yinfeng+rl-project", "haolpku+Synthetic-Math-RLVR", "laukevin+nano-math", "mianwu01+tts-sft",
    "mini-router+minirouter", "sangwansahil+elmo-harness", "stanford-crfm+helm", "tomyimkc+sophia-agi",
    "Raditya0902+peft-reasoning-comparison", "SUPERZJ827+BenchAudit", "qlaxyy+ASC_summer",
    "Adya6714+retrieval-vs-computation", "Ascend+MindSpeed-RL", "DavidBellamy+grpo-gsm8k", "FFishy-git+INFUSER",
    "QZF-888+consistency-gated-self-correction", "Sunshine535+nips-clox", "Taardisaa+learning-when-to-think",
    "Yuralo+mixed-precision-reasoning", "camel-ai+camel", "hon9kon9ize+infinite-rl", "michaelellis003+LMT",
    "mitodl+mitx-grading-library", "modelscope+ms-swift", "nvidia-cosmos+cosmos-rl", "open-thought+reasoning-gym",
    "openmagi+magi-agent", "researchim-ai+re-rl", "rllm-org+rllm", "samkas125+MCTS_LLM",
    "shannan-liu1+post-train-engine", "stvngo+Pivotal-Token-Representation-Learning", "vimeto+pocket-agent-cli",
    "halflearned+rlvr-experiments", "satchmakua+Crucible", "zai-org+GLM-V",
    "BurnyCoder+llm-steering-vectors-for-physics", "Cargo-Cult-Research+mlx-rl", "NVIDIA-NeMo+RL",
    "RockManRK+BENCHMARK_LLM", "allenai+open-instruct", "elliottthornley+risk-averse-ai-eval",
    "swiss-ai+ethel-tutor-eval", "yx-shi+Anti_Distillation", "UCL-INGI+INGInious-problems-math",
    "raybears+cot-transparency", "AI-Hypercomputer+maxtext", "EricSong03+mock-decepchain",
    "EvolvingLMMs-Lab+lmms-eval", "MakazhanAlpamys+Soup", "NousResearch+atropos", "QWED-AI+qwed-verification",
    "RLinf+RLinf", "Uzbekswe+verifiable-reasoning-lab", "aabbdev+openbench2", "afaji+arabic-dialect-interp-gsm8k",
    "ethanwang202511-cloud+reflex-rlvr", "idreesaziz+Verification-Augmented-Reasoning", "meta-pytorch+forge",
    "mingxuZhang2+EMRB", "pytorch+torchtune", "rasbt+reasoning-from-scratch", "siya-j+math-reasoning-agent",
    "sjonas50+SLMTeacher", "Plurato+MathHelper", "groq+openbench", "jrauvola+latent_eval_training_harness",
    "rekha509+practice-forge", "scaleapi+llm-engine", "yyting2006-ai+ConsensusScope",
  )),
)  # fmt: skip
Bindings = dict[str, Any]
Case = tuple[str, Any, Any, Any]  # "pair", gold, text, verdict; or "extraction", response, answer, None


class _Call:
  """A call whose result a variable holds, with what its arguments were bound to."""

  def __init__(self, node: ast.Call, bound: Bindings):
    self.node, self.bound = node, dict(bound)


def value(node: ast.AST, bound: Bindings) -> Any:
  """What a literal, a bound name or an entry of a bound table is; None for anything that would have to be run."""
  if isinstance(node, ast.Name):
    return bound.get(node.id)
  if isinstance(node, ast.Subscript):
    table, key = value(node.value, bound), literal(node.slice)
    return table.get(key) if isinstance(table, dict) else None
  if isinstance(node, ast.Call):
    return _Call(node, bound)
  if isinstance(node, ast.JoinedStr):
    parts = [p.value if isinstance(p, ast.Constant) else value(getattr(p, "value", p), bound) for p in node.values]
    return "".join(map(str, parts)) if all(isinstance(part, str | int) for part in parts) else None
  if isinstance(node, ast.Set):
    return ", ".join(sorted(str(literal(item)) for item in node.elts))
  if isinstance(node, ast.List | ast.Tuple):
    items = [value(item, bound) for item in node.elts]
    return items[0] if len(items) == 1 and isinstance(items[0], str) else literal(node)
  return literal(node)


def bind(target: ast.AST, row: Any, bound: Bindings) -> None:
  if isinstance(target, ast.Name):
    bound[target.id] = row
  elif isinstance(target, ast.Tuple) and isinstance(row, tuple | list):
    for part, item in zip(target.elts, row, strict=False):
      bind(part, item, bound)


def cases_in(body: list[ast.stmt], bound: Bindings) -> Iterator[Case]:
  """What the statements assert, in order."""
  for node in body:
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
      bind(node.targets[0], value(node.value, bound), bound)
    elif isinstance(node, ast.Assert):
      yield from asserted(node.test, True, bound)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
      yield from _of_unittest(node.value, bound)
    elif isinstance(node, ast.For):
      rows = value(node.iter, bound)
      for row in rows if isinstance(rows, list | tuple) else ():
        inner = dict(bound)
        bind(node.target, row, inner)
        yield from cases_in(node.body, inner)
    elif isinstance(node, ast.If) and re.search(r"\.append|raise|fail", ast.unparse(node.body[0])):
      yield from asserted(ast.UnaryOp(ast.Not(), node.test), True, bound)
    elif isinstance(node, ast.With | ast.Try | ast.If | ast.ClassDef | ast.AsyncWith):
      yield from cases_in(node.body, dict(bound) if isinstance(node, ast.ClassDef) else bound)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
      for inner in _parametrized(node, bound):
        yield from cases_in(node.body, inner)


def _parametrized(function: Any, bound: Bindings) -> Iterator[Bindings]:
  """The bindings under which a test runs: one for each combination of rows of its tables."""
  tables = []
  for call in function.decorator_list:
    if not (isinstance(call, ast.Call) and call.args):
      continue
    names = literal(call.args[0])
    for made in call.args[1:]:  # a table made of one row that is given by name
      if isinstance(made, ast.Call) and {k.arg for k in made.keywords} >= {"response", "answer"}:
        tables.append([{str(k.arg): value(k.value, bound) for k in made.keywords}])
    if getattr(call.func, "attr", "") == "parametrize" and len(call.args) > 1:
      names = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names or ())
      listed = call.args[1].elts if isinstance(call.args[1], ast.List | ast.Tuple) else value(call.args[1], bound)
      rows = (
        [_row(row) if isinstance(row, ast.AST) else row for row in listed] if isinstance(listed, list | tuple) else []
      )
      tables.append(
        [
          dict(zip(names, row if len(names) > 1 and isinstance(row, tuple | list) else (row,), strict=False))
          for row in rows
        ]
      )
    elif getattr(call.func, "attr", "") == "expand" and isinstance(call.args[0], ast.List):
      names = [argument.arg for argument in function.args.args if argument.arg != "self"]
      tables.append(
        [dict(zip(names, row, strict=False)) for row in map(literal, call.args[0].elts) if isinstance(row, tuple)]
      )
  for chosen in itertools.product(*tables):
    yield {**bound, **{name: item for row in chosen for name, item in row.items()}}


def _row(node: ast.AST) -> Any:
  if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "param":
    row = tuple(literal(item) for item in node.args)
    return row if len(row) > 1 else row[0]
  return literal(node)


def _of_unittest(call: ast.Call, bound: Bindings) -> Iterator[Case]:
  name = getattr(call.func, "attr", "")
  if name in {"assertTrue", "assertFalse"} and call.args:
    yield from asserted(call.args[0], name == "assertTrue", bound)
  elif name in {"assertEqual", "assertIs", "assertIsNone"} and call.args:
    right = call.args[1] if len(call.args) > 1 and name != "assertIsNone" else ast.Constant(None)
    yield from asserted(ast.Compare(call.args[0], [ast.Eq()], [right]), True, bound)


def asserted(test: ast.AST, verdict: bool, bound: Bindings) -> Iterator[Case]:
  """Pairs and extractions of one assertion."""
  if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
    for part in test.values:
      yield from asserted(part, verdict, bound)
  elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
    yield from asserted(test.operand, not verdict, bound)
  elif isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq | ast.Is):
    expected = value(test.comparators[0], bound)
    if isinstance(expected, _Call):
      return
    yield from _called(test.left, expected, bound, is_verdict=expected in (True, False), flipped=not verdict)
  else:
    yield from _called(test, verdict, bound, is_verdict=True, flipped=False)


def _called(node: ast.AST, expected: Any, bound: Bindings, *, is_verdict: bool, flipped: bool) -> Iterator[Case]:
  """The case of `grade(a, b)` or `extract(text)`, also `.passed` or `["is_correct"]` of it, or a variable with it."""
  while isinstance(node, ast.Attribute | ast.Subscript | ast.Await):
    node = node.value
  found = value(node, bound)
  if not isinstance(found, _Call):
    return
  name = str(getattr(found.node.func, "attr", getattr(found.node.func, "id", ""))).lower()
  if NO_GRADER.search(name):
    return
  texts, named = _texts(found)
  if is_verdict and COMPARES.search(name) and isinstance(expected, bool | int | float):
    gold, text = (*texts[1::-1], None, None)[:2] if len(named) < 2 else (named["gold"], named["text"])
    if gold is not None and text is not None:
      yield "pair", gold, text, bool(expected) != flipped
  elif EXTRACTS.search(name) and len(texts) == 1 and not flipped and isinstance(expected, str | int | float | None):
    yield "extraction", texts[0], expected, None


def _texts(call: _Call) -> tuple[list[str], dict[str, str]]:
  """The texts and numbers among the arguments, and of those given by name the gold and the text to be graded."""
  given = [value(argument, call.bound) for argument in call.node.args]
  if (len(given) > 2 and given[2] is None) or any(isinstance(i, dict) and not i.keys() <= OPTIONS for i in given):
    return [], {}
  inner = [item for item in given if isinstance(item, _Call)]
  if inner and not any(isinstance(item, str) for item in given):
    return _texts(inner[0])
  texts = [str(item) for item in given if isinstance(item, str | int | float) and not isinstance(item, bool)]
  texts = [text for text in texts if not LABELS.fullmatch(text)]
  named = {}
  for keyword in call.node.keywords:
    item = value(keyword.value, call.bound)
    role = "gold" if keyword.arg in GOLDS else "text" if keyword.arg in TEXTS else ""
    if role and isinstance(item, str | int | float) and not isinstance(item, bool):
      named[role] = str(item)
  return texts or [named["text"]] if "text" in named else texts, named


def from_script(source: str) -> Iterator[Case]:
  """Tables of pairs in TypeScript, by the name of the table."""
  source = re.sub(r"(?m)^\s*//.*$", "", source)
  quoted = r"(?:\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)')"
  for table in re.finditer(r"(?:var|const|let)\s+(\w+)[^=;]*=\s*\[(.*?)\n\s*\];", source, re.DOTALL):
    if not EQUALITIES.search(table[1]):
      continue
    for match in re.finditer(rf"\[\s*{quoted}\s*,\s*{quoted}\s*,?\s*\]", table[2]):
      gold, text = (re.sub(r"\\(.)", r"\1", match[k] or match[k + 1] or "") for k in (1, 3))
      yield "pair", gold, text, not NEGATIVE.search(table[1])


def from_records(text: str) -> Iterator[Case]:
  """JSON or JSON lines of labelled model outputs."""
  rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines() if line]
  for row in rows:
    response = row.get("model_prediction", row.get("completion"))
    verdict = row.get("expected_equivalent", row.get("expected_score"))
    yield "pair", row.get("gold_answer", row.get("answer")), response, bool(verdict)


def cases_of(path: str, text: str) -> Iterator[Case]:
  if path.endswith(".ts"):
    yield from from_script(text)
  elif path.endswith(".py"):
    tree = ast.parse(text)
    bound: Bindings = {}
    yield from cases_in(tree.body, bound)
  else:
    yield from from_records(text)


def collected(checkouts: pathlib.Path) -> Iterator[tuple[str, Case]]:
  """(project, case) of all sources that are there, with doubles."""
  for folder, pattern in SOURCES:
    if not (checkouts / folder).is_dir():
      continue
    for path in git(checkouts / folder, "ls-tree", "-r", "--name-only", "HEAD").splitlines():
      if re.fullmatch(pattern, path):
        for case in cases_of(path, git(checkouts / folder, "show", f"HEAD:{path}")):
          yield folder, case


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """Writes the cases; one row a project says how many."""
  parser = argparse.ArgumentParser("skymath bench grading_fresh")
  parser.add_argument("checkouts", type=pathlib.Path)
  parser.add_argument("out", type=pathlib.Path)
  chosen = parser.parse_args(words)
  pairs: dict[tuple[str, str], dict[str, Any]] = {}
  extractions: dict[str, dict[str, Any]] = {}
  for source, (kind, first, second, verdict) in collected(chosen.checkouts):
    if not isinstance(first, str | int | float) or not str(first).strip():
      continue
    if kind == "extraction":
      expected = None if second in (None, "") else str(second)
      extractions.setdefault(str(first), {"response": str(first), "expected": expected, "source": source})
    elif isinstance(second, str | int | float):
      gold, text = str(first), str(second)
      if ONLY_PROGRAMS.search(gold + " " + text) and len(text) < 200:
        continue
      if SENTENCE.search(MATHS.sub("", gold)) and not SENTENCE.search(MATHS.sub("", text)):
        gold, text = text, gold
      key = "response" if SENTENCE.search(MATHS.sub("", text)) else "pred"
      pairs.setdefault((gold, text), {"gold": gold, key: text, "same": bool(verdict), "source": source})
  chosen.out.mkdir(parents=True, exist_ok=True)
  for name, rows in (("pairs", pairs), ("extraction", extractions)):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values())
    (chosen.out / f"{name}.jsonl").write_text(text, encoding="utf-8")
    for source, _ in SOURCES:
      count = sum(row["source"] == source for row in rows.values())
      if count:
        yield {"name": f"grading_fresh.{name}", "value": count, "unit": "cases", "settings": {"source": source}}
