"""The house in figures, for this checkout or another: settings, size, what docstrings tell, types, and ways to follow.

    skymath bench house [FOLDER] [--no_types] [--list]

FOLDER is the root of a checkout (default: the one that this file lies in), such as a clone of an older commit; its code
is read as text, and only its table of config keys is loaded. `--list` names what was counted. What each figure means is
the docstring of the function that counts it.
"""

import argparse
import ast
import dataclasses
import functools
import itertools
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
MAX_LINES, MAX_FUNCTION = 400, 50
# What a reader opens to follow one thing: (what the command goes through before, what runs for each one), in the order
# of the calls, once for the house as it is and once as it was at 6c02807. Names are module:function below skymath_jax.
WAYS: dict[str, list[tuple[list[str], list[str]]]] = {
  "training_step": [
    (
      ["cli.recipe:train", "recipe.stages:perform", "recipe.train:train"],
      [
        "training.loop:train", "training.optimizer:make", "training.packing:iterate",
        "training.packing:Steps.__getitem__", "training.step:step", "training.step:loss_and_gradient",
        "training.loss:weighted_sum", "models.decoder:Decoder.hidden",
      ],
    ),
    (
      ["verbs.recipe:train", "pipeline:recipe", "pipeline:perform", "stages.model:train"],
      [
        "training.loop:train", "training.loop:_Loop.run", "training.optimizer:make", "training.batches:iterate",
        "training.batches:Steps.__getitem__", "training.step:step", "training.step:loss_and_gradient",
        "training.loss:weighted_sum", "models.decoder:Decoder.hidden",
      ],
    ),
  ],
  "served_request": [
    (
      ["cli.serve:serve", "server.serve:serve_model", "server.serve:start"],
      [
        "server.http:_answer", "server.driver:Driver.ask",
        "engine.engine:Engine.prefill_each", "engine.programs:Programs._prefill", "engine.batching:Loop.start",
        "engine.slots:Slots.insert",
        "engine.batching:Loop.step", "engine.slots:Slots.generate", "engine.programs:Programs._generate",
        "models.decoder:Decoder.decode", "models.attention:cached", "engine.sampling:sample",
        "server.driver:StreamedJob.chunks",
      ],
    ),
    (
      ["verbs.tools:serve", "stages.tools:serve", "serving.server:serve", "serving.server:start"],
      [
        "serving.http:_answer", "serving.service:Frontend.submit", "serving.driver:Driver.submit",
        "serving.core:Core.prefill_each", "serving.core:Programs._prefill", "serving.loop:Loop.start",
        "serving.driver:EngineSlots.insert",
        "serving.engine:DecoderEngine.insert", "serving.slots:SlotTable.insert", "serving.loop:Loop.step",
        "serving.driver:EngineSlots.dispatch", "serving.engine:DecoderEngine.generate",
        "serving.slots:SlotTable.generate", "serving.core:Programs._generate", "models.decoder:Decoder.decode",
        "models.attention:cached", "serving.sampling:sample", "serving.driver:EngineSlots.rows",
        "serving.service:StreamedJob.chunks",
      ],
    ),
  ],
  "synthesized_instance": [
    (
      ["cli.recipe:synthesize", "recipe.stages:perform", "recipe.synthesize:normal"],
      [
        "synthesis.run:synthesize", "synthesis.run:_perform", "synthesis.methods.xwin:augment",
        "synthesis.session:StoredAsk.__call__", "prompts:load", "synthesis.session:Session.answer",
        "synthesis.store:ResponseStore.get", "generation.jetstream:JetStreamGenerator.complete",
        "synthesis.store:ResponseStore.put_async", "synthesis.methods.parse:sections",
        "synthesis.methods.base:solutions", "synthesis.methods.base:instance", "synthesis.outcomes:Outcomes.put",
      ],
    ),
    (
      ["verbs.recipe:synthesize", "pipeline:recipe", "pipeline:perform", "stages.data:synthesize_normal"],
      [
        "synthesis.run:synthesize", "synthesis.plan:jobs", "synthesis.run:_perform", "synthesis.methods.xwin:augment",
        "synthesis.asking:StoredAsk.__call__", "prompts:load", "synthesis.store:ResponseStore.get",
        "synthesis.asking:StoredAsk._send", "generation.jetstream:JetStreamGenerator.complete",
        "synthesis.store:ResponseStore.put_async", "synthesis.methods.parse:sections",
        "synthesis.methods.ask:solutions", "synthesis.methods.ask:instance", "synthesis.outcomes:Outcomes.put",
      ],
    ),
  ],
}  # fmt: skip
# Section of the config → rooms that take its settings (a key of none belongs to all).
TAKEN_BY = {
  "seeds": {"problems", "datasets", "recipe"},
  "teacher": {"generation", "engine", "server", "serving", "recipe", "cli", "verbs"},
  "serving": {"engine", "server", "testing", "recipe", "cli"},
  "synthesis": {"synthesis", "coreset", "diversity"},
  "curation": {"curation"},
  "mesh": {"sharding"},
  "model": {"models"},
  "training": {"training"},
  "evaluation": {"evaluation"},
  "export": {"convert"},
  "study": {"study"},
}
# Defaults that are no second opinion of a config key: the class is a library's, used without any config.
LIBRARY = {"models/config.py:DecoderConfig": "a public type; the recipe passes all that the config has"}


@dataclasses.dataclass(frozen=True)
class Function:
  """A function or method of the package, with the class it is in."""

  file: str
  name: str
  node: ast.FunctionDef | ast.AsyncFunctionDef
  owner: ast.ClassDef | None
  source: str

  @property
  def public(self) -> bool:
    return not any(part.startswith("_") and part != "__init__" for part in self.name.split("."))

  @property
  def said(self) -> str:
    """What the reader is told: docstring, the class's where the function is its constructor, comments in between."""
    owners = ast.get_docstring(self.owner) or "" if self.owner and self.node.name in ("__init__", "__call__") else ""
    end = self.node.body[1].lineno if len(self.node.body) > 1 else self.node.end_lineno
    lines = self.source.splitlines()[self.node.lineno - 1 : end]
    return "\n".join([owners, ast.get_docstring(self.node) or "", *(x.partition("#")[2] for x in lines)])


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
  """The syntax tree of a file: its module first, then all nodes below."""
  return list(ast.walk(ast.parse(path.read_text())))


def functions(package: Path) -> Iterator[Function]:
  """All functions of modules and classes, not those inside functions; `package` may be one file."""
  for path in sorted(package.rglob("*.py")) if package.is_dir() else [package]:
    source, file = path.read_text(), str(path.relative_to(package)) if package.is_dir() else path.name
    for node in ast.iter_child_nodes(nodes(path)[0]):
      if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield Function(file, node.name, node, None, source)
      elif isinstance(node, ast.ClassDef):
        for inner in node.body:
          if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(file, f"{node.name}.{inner.name}", inner, node, source)


def config_keys(root: Path) -> list[str]:
  """The keys of `skymath_jax.config.base()`; a mapping with entries of the user's choosing is one key."""
  code = "from skymath_jax import config as c; print('\\n'.join(c.flatten(c.base())))"
  command = [sys.executable, "-c", code]
  return subprocess.run(
    command, cwd=root, env={"PYTHONPATH": str(root)}, check=True, capture_output=True, text=True
  ).stdout.split()


def second_defaults(package: Path, keys: list[str]) -> list[str]:
  """Defaults of fields, parameters and flags that are called like a key which their room takes.

  None (the caller says nothing) and a field of the config's own sections (`serving.slots`) are none.
  """
  rooms: dict[str, set[str]] = {}
  for key in keys:
    section, _, leaf = key.rpartition(".")
    rooms.setdefault(leaf, set()).update(TAKEN_BY.get(section.partition(".")[0], set()))
  found = []
  for path in sorted(package.rglob("*.py")):
    file = str(path.relative_to(package))
    for node in nodes(path):
      where = f"{file}:{getattr(node, 'name', 'Flag')}"
      names = [] if where in LIBRARY else [name for name, default in _defaults(node) if not _is_none(default)]
      found += [f"{where} {name}" for name in names if file.split("/")[0].removesuffix(".py") in rooms.get(name, ())]
  return found


def _is_none(default: ast.expr) -> bool:
  return isinstance(default, ast.Attribute) or (isinstance(default, ast.Constant) and default.value is None)


def _defaults(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
  """(name, default) of what one node declares."""
  if isinstance(node, ast.ClassDef):
    for inner in node.body:
      if isinstance(inner, ast.AnnAssign) and inner.value is not None and isinstance(inner.target, ast.Name):
        yield inner.target.id, inner.value
  elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not re.match("_(?!_init__)", node.name):
    arguments = node.args
    last = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    pairs = zip([*last, *arguments.kwonlyargs], [*arguments.defaults, *arguments.kw_defaults], strict=True)
    yield from ((argument.arg, default) for argument, default in pairs if default is not None)
  elif isinstance(node, ast.Call) and _last(node.func) == "Flag" and isinstance(node.args[0], ast.Constant):
    yield node.args[0].value, node.args[1]


def our_errors(package: Path) -> set[str]:
  """Names of the exceptions that are made for a user's eyes: those of errors.py, and their subclasses anywhere."""
  classes = [n for p in package.rglob("*.py") for n in nodes(p) if isinstance(n, ast.ClassDef)]
  found = {n.name for n in nodes(package / "errors.py") if isinstance(n, ast.ClassDef)}
  for _ in range(3):
    found |= {c.name for c in classes if {ast.unparse(base).split(".")[-1] for base in c.bases} & found}
  return found


def raisers(package: Path) -> tuple[list[Function], list[Function]]:
  """Public functions that raise one of our errors, themselves or in a private function of their file; the silent ones.

  Silent: the docstring has neither a paragraph `Raises:` nor the name of the error.
  """
  errors, everything = our_errors(package), list(functions(package))
  raised: dict[tuple[str, str], set[str]] = {}
  called: dict[tuple[str, str], set[str]] = {}
  private: dict[tuple[str, str], list[str]] = {}  # (file, last part of the name) → names
  for f in everything:
    last = f.name.split(".")[-1]
    if last.startswith("_") and not last.startswith("__"):
      private.setdefault((f.file, last), []).append(f.name)
    inside = list(ast.walk(f.node))
    called[f.file, f.name] = {_last(n.func) for n in inside if isinstance(n, ast.Call)}
    calls = [n.exc for n in inside if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call)]
    raised[f.file, f.name] = {_last(call.func) for call in calls} & errors
  for _ in range(4):
    for file, name in raised:
      helpers = [helper for last in called[file, name] for helper in private.get((file, last), ())]
      raised[file, name] |= {error for helper in helpers for error in raised[file, helper]}
  public = [f for f in everything if f.public and raised[f.file, f.name]]

  def silent(f: Function) -> bool:
    return "Raises" not in f.said and not any(name in f.said for name in raised[f.file, f.name])

  return public, [f for f in public if silent(f)]


def _last(node: ast.expr) -> str:
  return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def array_functions(package: Path) -> tuple[list[Function], list[Function]]:
  """Public functions that take or return arrays; those among them whose docstring names no shape or kind of array.

  A shape is `[batch length]`, also in a comment of the signature; "scalar" and "shape" are one, too.
  """
  found = []
  for f in functions(package):
    arguments = [*f.node.args.posonlyargs, *f.node.args.args, *f.node.args.kwonlyargs]
    notes = [ast.unparse(a) for a in [*(arg.annotation for arg in arguments), f.node.returns] if a is not None]
    if f.public and any(re.search(r"\b(Array|ndarray|NDArray)\b", note) for note in notes):
      found.append(f)
  shape = re.compile(r"\[[\w.…]+([ ,×*+/-]+[\w.…]+)*\]|[Ss]calar|[Ss]hape")
  return found, [f for f in found if not shape.search(f.said)]


def long_functions(package: Path) -> tuple[int, list[str]]:
  """Number of all functions, nested ones too, and those longer than 50 lines."""
  found = [
    (f"{path.relative_to(package)}:{n.name}", (n.end_lineno or n.lineno) - n.lineno + 1)
    for path in sorted(package.rglob("*.py"))
    for n in nodes(path)
    if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
  ]
  return len(found), [f"{name} ({length})" for name, length in found if length > MAX_FUNCTION]


def type_errors(root: Path) -> Counter[str]:
  """Room → errors of mypy, with this checkout's settings."""
  command = [sys.executable, "-m", "mypy", "--config-file", str(HERE / "pyproject.toml"), "skymath_jax"]
  lines = subprocess.run(command, cwd=root, capture_output=True, text=True).stdout.splitlines()
  found = [m[1].removesuffix(".py") for line in lines if (m := re.match(r"skymath_jax/([^/:]+).*: error:", line))]
  return Counter(found)


def private_reaches(root: Path) -> list[str]:
  """Lines of tests and benchmarks that use a private attribute of something else than `self` or `cls`."""
  found = []
  for path in sorted([*root.glob("tests/**/*.py"), *root.glob("benchmarks/**/*.py")]):
    for n in nodes(path):
      if isinstance(n, ast.Attribute) and re.match(r"_[a-z]", n.attr):
        if not (isinstance(n.value, ast.Name) and n.value.id in ("self", "cls")):
          found.append(f"{path.relative_to(root)}:{n.lineno} {ast.unparse(n)[-60:]}")
  return sorted(set(found))


def modules_of(package: Path, steps: list[str]) -> list[str]:
  """The modules of a way, in order.

  Raises:
    LookupError: a function is not there, or neither the modules before it nor its own name it (a class, where Python
      calls the method).
  """
  opened: dict[str, set[str]] = {}
  for step in steps:
    module, _, name = step.partition(":")
    path = package / f"{module.replace('.', '/')}.py"
    path = path if path.exists() else package / module.replace(".", "/") / "__init__.py"
    if not path.exists() or name not in {f.name for f in functions(path)}:
      raise LookupError(f"there is no {step}")
    opened.setdefault(module, {_last(n) for n in nodes(path)})
    owner, _, last = name.rpartition(".")
    if (owner if last.startswith("__") else last) not in set().union(*opened.values()) and step != steps[0]:
      raise LookupError(f"nothing before it names {step}")
  return list(opened)


def ways(package: Path) -> Iterator[tuple[str, list[str] | str]]:
  """Name of each way and its modules, without and with the command, or what is wrong with it."""
  for name, versions in WAYS.items():
    wrong = ""
    for before, each in versions:
      try:
        whole, inside = modules_of(package, before + each), modules_of(package, each)
      except LookupError as error:
        wrong = f"{wrong}; {error}".lstrip("; ")
        continue
      yield name, inside
      yield f"{name}_from_command", whole
      break
    else:
      yield name, wrong


def run(argv: list[str]) -> Iterator[dict[str, Any]]:
  """One row a figure; the settings hold what was counted where `--list` asks for it."""
  parser = argparse.ArgumentParser("skymath bench house")
  parser.add_argument("folder", nargs="?", type=Path, default=HERE)
  parser.add_argument("--no_types", action="store_true", help="leave mypy out")
  parser.add_argument("--list", action="store_true", help="name what was counted")
  chosen = parser.parse_args(argv)
  root, package = chosen.folder.resolve(), chosen.folder.resolve() / "skymath_jax"

  def row(name: str, found: list[Any] | int, unit: str, **more: Any) -> dict[str, Any]:
    listed = {"which": [str(x) for x in found]} if chosen.list and isinstance(found, list) else {}
    value = len(found) if isinstance(found, list) else found
    return {"name": f"house.{name}", "value": value, "unit": unit, "settings": more | listed}

  def place(f: Function) -> str:
    return f"{f.file}:{f.node.lineno} {f.name}"

  files = sorted(package.rglob("*.py"))
  sizes = {str(p.relative_to(package)): len(p.read_text().splitlines()) for p in files}
  keys = config_keys(root)
  count, long = long_functions(package)
  yield row("keys", keys, "keys")
  yield row("second_defaults", second_defaults(package, keys), "settings")
  yield row("lines", sum(sizes.values()), "lines", files=len(files))
  yield row("files_over_400", [f"{name} ({n})" for name, n in sizes.items() if n > MAX_LINES], "files")
  yield row("functions_over_50", long, "functions", of=count)
  for name, counted in (("silent_about_raising", raisers), ("arrays_without_shapes", array_functions)):
    everyone, wrong = counted(package)
    yield row(name, [place(f) for f in wrong], "functions", of=len(everyone))
  yield row("private_reaches", private_reaches(root), "places")
  for name, modules in ways(package):
    broken = {"broken": modules} if isinstance(modules, str) else {}
    yield row(name, 0 if isinstance(modules, str) else modules, "modules", **broken)
  if not chosen.no_types:
    errors = type_errors(root)
    yield row("type_errors", errors.total(), "errors", **dict(errors.most_common()))


def main(argv: list[str], show: Callable[[str], None] = print) -> None:
  """A table for people: `python benchmarks/house.py [FOLDER]`."""
  for found in run(argv):
    more = {key: value for key, value in found["settings"].items() if key != "which"}
    show(f"{found['name'].removeprefix('house.'):<24}{found['value']:>7,} {found['unit']:<10} {more or ''}".rstrip())
    for item in itertools.chain(found["settings"].get("which", [])):
      show(f"    {item}")


if __name__ == "__main__":
  main(sys.argv[1:])
