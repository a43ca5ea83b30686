"""Re-solves a question of the world from its text alone, forward or backward.

The text is parsed sentence by sentence (`grammar`), the persons and objects are followed through it, and the equations
are solved exactly. Whatever is not a well-formed question of the world, or has a quantity that is not a positive
integer, or an X that is not unique, gives None.
"""

import dataclasses
import re

from skymath_jax import prompts
from skymath_jax.problems.micro_gsm import algebra, grammar, lexicon
from skymath_jax.problems.micro_gsm.program import BOTH, FRACTION_KINDS, Program, Relation, Value, split_of, whole
from skymath_jax.problems.micro_gsm.story import Scene

_FOBAR_HEAD, _FOBAR_TAIL = prompts.load("metamath/fobar_question").literals
_VERIFY_TAIL = prompts.load("metamath/self_verification_question").literals[-1]


@dataclasses.dataclass(frozen=True)
class Solved:
  """What the oracle knows of a question.

  `level` is the number of steps of the problem; `key` is canonical (two wordings of one problem share it) and
  `problem_key` is that of the problem with the hidden number put back, which decides its `split`.
  """

  answer: int
  level: int
  key: str
  problem_key: str
  backward: bool

  @property
  def split(self) -> str:
    return split_of(self.problem_key)


@dataclasses.dataclass(frozen=True)
class Parsed:
  """A question read: the program (one number None if X), the scene, and the answer that a backward question tells."""

  program: Program
  scene: Scene
  told: int | None = None


class _UnreadableError(Exception):
  """The text is not a question of the world."""


@dataclasses.dataclass
class _Reader:
  """Follows persons, objects and quantities through the sentences of one question."""

  persons: list[str] = dataclasses.field(default_factory=list)
  objects: str | None = None
  relations: list[Relation] = dataclasses.field(default_factory=list)
  condition: Relation | None = None
  container: str | None = None

  def person(self, word: str) -> int:
    """The index of the person that a name or pronoun stands for; a new name is added."""
    if word in self.persons:
      return self.persons.index(word)
    if word in lexicon.PERSONS:
      if len(self.persons) == 2:
        raise _UnreadableError
      self.persons.append(word)
      return len(self.persons) - 1
    if len(self.persons) != 1 or word not in (
      lexicon.pronoun(self.persons[0]),
      lexicon.object_pronoun(self.persons[0]),
    ):
      raise _UnreadableError
    return 0

  def thing(self, found: dict[str, str]) -> None:
    if "O" in found:
      if self.objects not in (None, found["O"]):
        raise _UnreadableError
      self.objects = found["O"]

  def has(self, who: int) -> bool:
    return any(relation.who == who for relation in self.relations)

  def body(self, rule: grammar.Rule, found: dict[str, str]) -> None:
    """Adds one sentence before the question."""
    if self.condition is not None:
      raise _UnreadableError
    self.thing(found)
    numbers = _numbers(rule.kind, found)
    if rule.kind in _CONDITIONS:
      who = BOTH if rule.both else self._who(found)
      if not (self.has(0) and (who == 0 or self.has(1))):
        raise _UnreadableError
      self.container = found["C"] if "C" in found else None
      self.condition = Relation(rule.kind, who, numbers)
      return
    relation = Relation(rule.kind, 0, numbers)
    if relation.compares:
      known = self.person(found["N"])
      if not self.has(known):
        raise _UnreadableError
      who = self.person(found["M"])
    else:
      who = self._who(found)
    if self.has(who) == relation.introduces or (who == 1 and not self.has(0)):
      raise _UnreadableError
    self.relations.append(Relation(rule.kind, who, numbers))

  def _who(self, found: dict[str, str]) -> int:
    return self.person(next(found[slot] for slot in "PHN" if slot in found))

  def final(self, rule: grammar.Rule, found: dict[str, str]) -> Relation:
    """The final that a closing question (or statement) and the condition before it make."""
    self.thing(found)
    known = len(self.persons)
    if rule.kind in _CONDITIONS:
      condition = self.condition
      if condition is None or condition.kind != rule.kind or ("C" in found and found["C"] != self.container):
        raise _UnreadableError
      if rule.kind != "share" and (self._who(found) if not rule.both else BOTH) != condition.who:
        raise _UnreadableError
      return condition
    if self.condition is not None:
      raise _UnreadableError
    if rule.kind == "own":
      final = Relation("own", self._who(found))
    else:
      names = [self.person(found[slot]) for slot in "NM" if slot in found]
      if known != 2 or (names and set(names) != {0, 1}):
        raise _UnreadableError
      final = Relation("total", BOTH) if rule.kind == "total" else Relation("diff", names[0])
    if not self.has(0) or (final.who != 0 and not self.has(1)):
      raise _UnreadableError
    return final


_CONDITIONS = frozenset(("price", "pack", "share", "need"))


def _numbers(kind: str, found: dict[str, str]) -> tuple[Value, ...]:
  if kind in FRACTION_KINDS:
    phrase = found["F"]
    if phrase in lexicon.FRACTION_WORDS:
      return (lexicon.FRACTION_WORDS[phrase],)
    if phrase == "X%":
      return (None,)
    return (algebra.apply("/", 100, int(phrase[:-1])),)
  return tuple(None if found[slot] == "X" else int(found[slot]) for slot in "ab" if slot in found)


def parse(question: str) -> Parsed | None:
  """Reads a forward or backward question; None if it is not one of the world."""
  try:
    return _parse(question.strip())
  except _UnreadableError:
    return None


def _parse(question: str) -> Parsed:
  if not question.endswith(_VERIFY_TAIL):
    *body, closing = grammar.sentences(question)
    parsed = _assemble(body, closing, grammar.QUESTIONS)
    if _hidden(parsed.program):
      raise _UnreadableError
    return parsed
  if question.endswith(_FOBAR_TAIL) and _FOBAR_HEAD in question:
    forward, _, told = question[: -len(_FOBAR_TAIL)].partition(_FOBAR_HEAD)
    if not re.fullmatch(grammar.NUMBER, told):
      raise _UnreadableError
    *body, closing = grammar.sentences(forward)
    parsed = dataclasses.replace(_assemble(body, closing, grammar.QUESTIONS), told=int(told))
  else:
    *body, statement = grammar.sentences(question[: -len(_VERIFY_TAIL)])
    parsed = _assemble(body, statement, grammar.STATEMENTS)
  if _hidden(parsed.program) != 1:
    raise _UnreadableError
  return parsed


def _hidden(program: Program) -> int:
  return sum(n is None for relation in (*program.relations, program.final) for n in relation.numbers)


def _assemble(body: list[str], closing: str, rules: grammar.Rules) -> Parsed:
  """Reads the sentences; where one has several readings, the first that leads on is taken."""
  reader = _Reader()
  for text in body:
    _first_reading(reader, grammar.parse(text, grammar.BODY))
  error = _UnreadableError()
  for rule, found in grammar.parse(closing, rules):
    try:
      final = reader.final(rule, found)
    except _UnreadableError as failed:
      error = failed
      continue
    if "a" in found and not found["a"].isdecimal():
      raise _UnreadableError
    return Parsed(Program(tuple(reader.relations), final), _scene(reader), int(found["a"]) if "a" in found else None)
  raise error


def _first_reading(reader: _Reader, readings: list[tuple[grammar.Rule, dict[str, str]]]) -> None:
  for i, (rule, found) in enumerate(readings):
    try:
      return reader.body(rule, found)
    except _UnreadableError:
      if i == len(readings) - 1:
        raise
  raise _UnreadableError


def _scene(reader: _Reader) -> Scene:
  if reader.objects is None:
    raise _UnreadableError
  adjective, _, noun = reader.objects.rpartition(" ")
  first, *rest = reader.persons
  return Scene(lexicon.SUBJECT_OF[noun].name, noun, (first, rest[0] if rest else ""), adjective)


def solve(question: str) -> Solved | None:
  """The exact answer of a question, None if it is not a sound one of the world (see the module's head)."""
  parsed = parse(question)
  return None if parsed is None else solve_parsed(parsed)


def solve_parsed(parsed: Parsed) -> Solved | None:
  """`solve` for a question that is already read."""
  program = parsed.program
  built = algebra.system(program)
  level = len(built.equations)
  if not level:
    return None
  if parsed.told is None:
    values = algebra.forward(built)
    if values is None:
      return None
    return Solved(whole(values[built.answer]), level, program.key, program.key, False)
  hidden = algebra.hidden_value(built, parsed.told)
  if hidden is None:
    return None
  unmasked = restored(program, hidden).key
  return Solved(hidden, level, f"{program.key}={parsed.told}", unmasked, True)


def restored(program: Program, hidden: int) -> Program:
  """The program with its masked number put back."""

  def put_back(relation: Relation) -> Relation:
    number = algebra.apply("/", 100, hidden) if relation.kind in FRACTION_KINDS else hidden
    return dataclasses.replace(relation, numbers=tuple(number if n is None else n for n in relation.numbers))

  return Program(tuple(put_back(r) for r in program.relations), put_back(program.final))


def check(query: str, answer: object) -> tuple[bool, bool]:
  """(query is a sound question of the world, `answer` is its right answer)."""
  solved = solve(query)
  return solved is not None, solved is not None and str(answer).strip() == str(solved.answer)
