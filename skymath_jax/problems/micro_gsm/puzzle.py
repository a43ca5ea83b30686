"""Backward questions: a story with one number hidden as X and its answer told, in MetaMath's two forms."""

import dataclasses
import random

from skymath_jax import prompts
from skymath_jax.problems.micro_gsm import algebra, draw, lexicon, solution
from skymath_jax.problems.micro_gsm.program import BOTH, FRACTION_KINDS, Program, Relation, whole
from skymath_jax.problems.micro_gsm.story import Choice, Story

FINAL = -1


@dataclasses.dataclass(frozen=True)
class Puzzle:
  """`story` is the whole problem; X hides number `place[1]` of relation `place[0]` (FINAL: of the final).

  `verification`: the answer is told by a statement in place of the question (self-verification), else by a sentence
  after it (FOBAR).
  """

  story: Story
  place: tuple[int, int]
  verification: bool

  @property
  def hidden(self) -> Story:
    """The story with X for the number."""
    program, (i, j) = self.story.program, self.place
    if i == FINAL:
      program = dataclasses.replace(program, final=_masked(program.final, j))
    else:
      relations = list(program.relations)
      relations[i] = _masked(relations[i], j)
      program = dataclasses.replace(program, relations=tuple(relations))
    return dataclasses.replace(self.story, program=program)

  @property
  def answer(self) -> int:
    """The answer that is told."""
    return whole(draw.answer_of(self.story.program))

  @property
  def unique(self) -> bool:
    """Whether exactly one X fits."""
    return algebra.hidden_value(algebra.system(self.hidden.program), self.answer) is not None

  @property
  def question(self) -> str:
    story = self.hidden
    if self.verification:
      body, statement = " ".join(story.body), story.statement(self.answer)
      return prompts.load("metamath/self_verification_question").render(body=body, statement=statement)
    return prompts.load("metamath/fobar_question").render(question=story.question, answer=self.answer)

  def solution(self, style: int = 0) -> str | None:
    """The solution in words, None where the words for it are lacking (see `solution.backward_solution`)."""
    return solution.backward_solution(self.hidden.program, self.story.scene, self.answer, style)


def _masked(relation: Relation, j: int) -> Relation:
  return dataclasses.replace(relation, numbers=(*relation.numbers[:j], None, *relation.numbers[j + 1 :]))


def hide(story: Story, rng: random.Random) -> Puzzle | None:
  """Hides one of the numbers that stand in the text as digits; None if the hidden one would not be unique."""
  program = story.program
  places = [(i, j) for i, r in enumerate(program.relations) for j in range(len(r.numbers)) if _digits(story, i)]
  places += [(FINAL, j) for j in range(len(program.final.numbers))]
  if not places:
    return None
  puzzle = Puzzle(story, rng.choice(places), rng.random() < 0.5)
  return puzzle if puzzle.unique else None


def _digits(story: Story, i: int) -> bool:
  """Whether the relation's number is written in digits; `half` and its like are not."""
  relation = story.program.relations[i]
  if relation.kind not in FRACTION_KINDS:
    return True
  phrases = lexicon.FRACTIONS[whole(relation.numbers[0])]
  return relation.kind != "cfrac" and phrases[story.choices[i].fraction % len(phrases)].endswith("%")


def lengthened(puzzle: Puzzle, rng: random.Random, kinds: tuple[str, ...]) -> Puzzle | None:
  """One more change at the end of the story, and the told answer with it; None where it does not fit."""
  story = puzzle.story
  program, end = story.program, len(story.program.relations)
  if program.final.kind not in ("own", "total", "need"):
    return None
  who = rng.randrange(2) if program.final.who == BOTH else program.final.who
  have = whole(draw.answer_of(Program(program.relations, Relation("own", who))))
  relation = draw.draw_change(rng, who, have, kinds)
  if relation is None:
    return None
  longer = Program((*program.relations, relation), program.final)
  choices = (*story.choices[:end], Choice.draw(rng), *story.choices[end:])
  found = dataclasses.replace(puzzle, story=dataclasses.replace(story, program=longer, choices=choices))
  return found if draw.acceptable(longer) and found.unique else None
