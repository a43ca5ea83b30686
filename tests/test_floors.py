"""The structure as a test: who may import whom, what stays free of JAX and TensorFlow, how large things may grow.

What is counted here is counted by `benchmarks/house.py`: `skymath bench house --list` names what a failure means.
"""

import ast
import functools
from pathlib import Path

from skymath_jax.cli import bench

house = bench.module("house")
ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "skymath_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = {
  "errors": 0, "files": 0, "foreign": 0, "integrity": 0, "lease": 0, "records": 0, "config": 0, "hardware": 0,
  "heap": 0, "keys": 0, "console": 0, "mirror": 0,
  "hub": 0,
  "grading": 1, "generation": 1, "tokenizer": 1, "sharding": 1, "prompts": 1, "distributed": 1, "statistics": 1,
  "rows": 1,
  "models": 2, "problems": 2, "charts": 2, "chat": 2,
  "sft": 3, "synthesis": 3, "training": 3, "engine": 3,
  "server": 4, "testing": 4, "evaluation": 4, "convert": 4, "curation": 4,
  "doctor": 5, "preflight": 5, "report": 5, "coreset": 5, "serving": 5,
  "recipe": 6,
  "study": 7,
  "cli": 8,
}  # fmt: skip
BASEMENT = {room for room, floor in FLOORS.items() if floor == 0}  # they build on each other
JAX_FREE = BASEMENT | {
  "cli", "prompts", "grading", "generation", "curation", "problems", "sft", "synthesis", "report", "rows", "statistics",
  "charts", "chat",
}  # fmt: skip
MAY_IMPORT_LATE = {"cli", "models"}  # the last: Orbax costs a second that a Hugging Face folder does not need
KNOWS_NO_SERVER = {"engine", "models", "training", "synthesis"}  # rooms that import nothing of a wire
SILENT = 4  # public functions that raise one of our errors and do not say so
LONG = 0.003  # share of functions over 50 lines
# Tests and benchmarks that use a private attribute, and of what.
REACHES = {
  "tests/test_mirror.py": "a bucket in memory: fsspec's and epath's own hooks",
  "benchmarks/tpu_step_tunix.py": "the step and loss inside Tunix's trainer, which it does not offer alone",
}


def room(path: Path) -> str:
  return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def imports(path: Path) -> list[tuple[str, str, bool]]:
  """(place, dotted module, whether inside a function) of every import, `from skymath_jax import x` as skymath_jax.x."""
  own = [n for n in house.nodes(path) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
  late = {id(n) for function in own for n in ast.walk(function)}
  found = []
  for node in house.nodes(path):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
      names = [f"skymath_jax.{a.name}" for a in node.names] if node.module == "skymath_jax" else [node.module]
    found += [(f"{path.relative_to(ROOT)}:{node.lineno}", name, id(node) in late) for name in names]
  return found


def test_imports_only_from_lower_floors():
  for path in FILES:
    own = room(path)
    if own == "__init__":
      continue
    assert own in FLOORS, f"{path}: give the room {own} a floor in tests/test_floors.py"
    for where, module, _ in imports(path):
      other = module.removeprefix("skymath_jax.").split(".")[0]
      if not module.startswith("skymath_jax.") or other in (own, "__version__"):
        continue
      allowed = FLOORS[other] < FLOORS[own] or {own, other} <= BASEMENT
      assert allowed, f"{where} ({FLOORS[own]}) imports {other} ({FLOORS[other]})"


def test_heavy_libraries_stay_where_they_belong():
  for path in FILES:
    for where, module, inside in imports(path):
      top = module.split(".")[0]
      assert top not in {"tensorflow", "seqio", "pickle"}, f"{where} imports {module}"
      wire = top in {"jetstream", "grpc", "aiohttp"} and room(path) in KNOWS_NO_SERVER
      assert not wire, f"{where} imports {module}, but {room(path)} knows no server"
      arrays = top in {"jax", "flax", "optax", "orbax"} and room(path) in JAX_FREE
      assert not arrays, f"{where} imports {module}, but {room(path)} is JAX-free"
      late = inside and top == "skymath_jax" and room(path) not in MAY_IMPORT_LATE
      assert not late or "__getattr__" in path.read_text(), f"{where} imports {module} inside a function"


def test_files_and_functions_stay_small():
  for path in FILES:
    length = len(path.read_text().splitlines())
    assert length <= house.MAX_LINES, f"{path.relative_to(PACKAGE)} has {length} lines: is it two?"
  count, long = house.long_functions(PACKAGE)
  assert len(long) <= LONG * count, long
  assert not [name for name in long if int(name.partition("(")[2].rstrip(")")) > 60], long


def test_every_setting_has_one_default():
  assert house.second_defaults(PACKAGE, house.config_keys(ROOT)) == []


def test_public_functions_say_what_they_raise():
  silent = [f"{f.file}:{f.name}" for f in house.raisers(PACKAGE)[1]]
  assert len(silent) <= SILENT, silent


def test_functions_of_arrays_say_their_shapes():
  assert [f"{f.file}:{f.name}" for f in house.array_functions(PACKAGE)[1]] == []


def test_private_attributes_are_not_reached_into():
  reached = [place for place in house.private_reaches(ROOT) if place.partition(":")[0] not in REACHES]
  assert reached == []


def test_tests_import_one_way():
  for path in (ROOT / "tests").rglob("*.py"):
    for node in house.nodes(path):
      if isinstance(node, ast.ImportFrom):
        where = f"{path.relative_to(ROOT)}:{node.lineno}"
        assert node.level == 0, f"{where} imports by a relative name"
        assert not (node.module or "").startswith("tests.") or node.module.startswith("tests.support"), (
          f"{where} imports {node.module}: what tests share lies in tests/support/"
        )


def test_no_drawers():
  assert not [p for p in FILES if p.stem in {"utils", "util", "common", "helpers", "misc"}]


def test_text_is_never_evaluated_and_config_never_defaulted():
  for path in FILES:
    for call in (node for node in house.nodes(path) if isinstance(node, ast.Call)):
      where, named = f"{path.relative_to(ROOT)}:{call.lineno}", call.func
      if isinstance(named, ast.Name):
        assert named.id not in {"eval", "exec"}, f"{where} evaluates text"
      if isinstance(named, ast.Attribute) and named.attr == "get" and room(path) not in {"models", "tokenizer"}:
        asked = ast.unparse(named.value).lower().split(".")[-1]
        assert "config" not in asked, f"{where} reads a config key with a default of its own"


def test_mesh_axes_are_named_in_one_place():
  for path in FILES:
    texts = {n.value for n in house.nodes(path) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    named = "fsdp" in texts and room(path) not in {"sharding", "config", "recipe", "cli"}
    assert not named, f"{path.relative_to(ROOT)} names a mesh axis: put the rule into sharding.py"


def test_public_functions_have_docstrings():
  for path in FILES:
    for node in ast.iter_child_nodes(house.nodes(path)[0]):
      if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
        assert ast.get_docstring(node), f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name} has no docstring"
