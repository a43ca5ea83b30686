"""A story tells a program: a scene (who, what) and one wording choice a sentence; `Story.question` is the text.

Keeping the choices apart from the program lets a rewrite keep the sentences that it does not touch.
"""

import dataclasses
import random

from skymath_jax.problems.micro_gsm import lexicon, wording
from skymath_jax.problems.micro_gsm.program import BOTH, Program, Relation, whole


@dataclasses.dataclass(frozen=True)
class Scene:
  """Who and what a problem is about. `adjective` may be empty; `persons` always holds two names."""

  subject: str
  noun: str
  persons: tuple[str, str]
  adjective: str = ""

  @property
  def words(self) -> lexicon.Subject:
    return lexicon.SUBJECT_OF[self.noun]

  @property
  def objects(self) -> str:
    return f"{self.adjective} {self.noun}" if self.adjective else self.noun

  @property
  def general(self) -> bool:
    return self.persons[0] in lexicon.GENERAL_PERSONS


@dataclasses.dataclass(frozen=True)
class Choice:
  """How one sentence is worded: indices into the tables, taken modulo their length."""

  template: int = 0
  pronoun: bool = False
  verb: int = 0
  unit: int = 0
  fraction: int = 0

  @classmethod
  def draw(cls, rng: random.Random) -> "Choice":
    return cls(rng.randrange(12), rng.random() < 0.5, rng.randrange(2), rng.randrange(3), rng.randrange(2))


@dataclasses.dataclass(frozen=True)
class Story:
  """`choices` has one entry a relation, then one for the condition and one for the question."""

  program: Program
  scene: Scene
  choices: tuple[Choice, ...]

  @classmethod
  def draw(cls, program: Program, scene: Scene, rng: random.Random) -> "Story":
    """The program in random wording."""
    return cls(program, scene, tuple(Choice.draw(rng) for _ in range(len(program.relations) + 2)))

  def retold(self, rng: random.Random) -> "Story":
    """The same problem in other words; what is done, and how often, stays."""
    drawn = (Choice.draw(rng) for _ in self.choices)
    choices = (
      dataclasses.replace(new, verb=old.verb, unit=old.unit) for new, old in zip(drawn, self.choices, strict=True)
    )
    return dataclasses.replace(self, choices=tuple(choices))

  @property
  def body(self) -> list[str]:
    """The sentences before the closing question."""
    told, sentences = set(), []
    for i, (relation, choice) in enumerate(zip(self.program.relations, self.choices, strict=False)):
      told.add(relation.who)
      slots = _slots(self.scene, relation, choice, alone=len(told) == 1 and i > 0)
      templates = wording.BODY[relation.kind]
      sentences.append(wording.sentence(templates[choice.template % len(templates)], slots))
    final, choice = self.program.final, self.choices[-2]
    table = wording.CONDITION_BOTH if final.who == BOTH else wording.CONDITION
    if final.kind in table:
      slots = _slots(self.scene, final, choice, alone=self.program.persons == 1)
      sentences.append(wording.sentence(table[final.kind][choice.template % len(table[final.kind])], slots))
    return sentences

  def _closing(self) -> tuple[tuple[str, str], dict[str, object]]:
    final, choice = self.program.final, self.choices[-1]
    both = final.who == BOTH and final.kind in wording.QUESTION_BOTH
    pairs = (wording.QUESTION_BOTH if both else wording.QUESTION)[final.kind]
    slots = _slots(self.scene, final, choice, alone=self.program.persons == 1)
    return pairs[choice.template % len(pairs)], slots

  @property
  def closing(self) -> str:
    """The closing question sentence."""
    (question, _), slots = self._closing()
    return wording.sentence(question, slots)

  def statement(self, answer: object) -> str:
    """The closing question and its answer as one statement."""
    (_, statement), slots = self._closing()
    return wording.sentence(statement, {**slots, "a": answer})

  @property
  def question(self) -> str:
    return " ".join([*self.body, self.closing])


def _slots(scene: Scene, relation: Relation, choice: Choice, alone: bool) -> dict[str, object]:
  """What the slots of one sentence hold; pronouns only while there is one person."""
  first = 0 if relation.who == BOTH else relation.who
  me, other = scene.persons[first], scene.persons[1 - first]
  pronoun = alone and choice.pronoun
  words, unit = scene.words, lexicon.UNITS[choice.unit]
  slots: dict[str, object] = {
    "N": other if relation.compares else me,
    "M": me if relation.compares else other,
    "P": lexicon.pronoun(me) if pronoun else me,
    "H": lexicon.object_pronoun(me) if pronoun else me,
    "O": scene.objects,
    "C": words.container,
    "G": words.gains[choice.verb % len(words.gains)],
    "L": words.losses[choice.verb % len(words.losses)],
    "u": unit,
    "U": unit + "s",
  }
  slots.update(zip("ab", ("X" if number is None else number for number in relation.numbers), strict=False))
  if relation.kind in ("keep", "lossf") and relation.numbers[0] is None:
    slots["F"] = "X%"
  elif relation.kind in ("keep", "lossf"):
    phrases = lexicon.FRACTIONS[whole(relation.numbers[0])]
    slots["F"] = phrases[choice.fraction % len(phrases)]
  elif relation.kind == "cfrac":
    slots["F"] = lexicon.FRACTIONS[whole(relation.numbers[0])][0]
  return slots


def draw_scene(rng: random.Random, general: float = 0.1) -> Scene:
  """A random scene; a share `general` of them speaks of nobody and nothing in particular."""
  if rng.random() < general:
    persons = (rng.choice(lexicon.GENERAL_GIRLS), rng.choice(lexicon.GENERAL_BOYS))
    return Scene("general", rng.choice(lexicon.GENERAL.objects), persons if rng.random() < 0.5 else persons[::-1])
  subject = rng.choice(lexicon.SUBJECTS)
  return Scene(subject.name, rng.choice(subject.objects), draw_persons(rng), _draw_adjective(rng))


def draw_persons(rng: random.Random) -> tuple[str, str]:
  """Two different names."""
  first, second = rng.sample(lexicon.GIRLS + lexicon.BOYS, 2)
  return first, second


def _draw_adjective(rng: random.Random) -> str:
  return rng.choice(lexicon.ADJECTIVES) if rng.random() < 0.2 else ""
