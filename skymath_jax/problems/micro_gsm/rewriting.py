"""Oracle targets of the rewriting prompts: a story in, a story out, that obeys what the prompt asks for.

Sentences that a rewrite does not touch keep their wording. Every result is a sound problem of level 5 at most; where
the level is full, one relation gives way to the new one.
"""

import dataclasses
import random
from collections.abc import Callable

from skymath_jax.problems.micro_gsm import draw, lexicon
from skymath_jax.problems.micro_gsm.program import BOTH, Program, Relation, whole
from skymath_jax.problems.micro_gsm.story import Choice, Scene, Story, draw_persons, draw_scene

CONSTRAINTS = ("gain", "loss", "loss", "times", "split", "keep", "lossf")
REASONING = ("ggain", "rgain", "rloss", "lossf")
_TRIES = 60
Rewrite = Callable[[Story, random.Random], Story | None]


def level(story: Story) -> int:
  """The story's number of steps."""
  return draw.level_of(story.program)


def new_problem(story: Story, rng: random.Random) -> Story | None:
  """Another problem of the same field and level: the same relations with other numbers, or drawn afresh."""
  scene = story.scene
  if not scene.general:
    noun = rng.choice([noun for noun in scene.words.objects if noun != scene.noun])
    adjective = rng.choice(lexicon.ADJECTIVES) if rng.random() < 0.3 else ""
    scene = Scene(scene.subject, noun, draw_persons(rng), adjective)
  program = renumbered(story.program, rng) if rng.random() < 0.5 else None
  return Story.draw(program or draw.draw_program(rng, level(story)), scene, rng)


def renumbered(program: Program, rng: random.Random) -> Program | None:
  """The same relations with other numbers; None if none was found."""
  for _ in range(_TRIES):
    relations: list[Relation] = []
    have: dict[int, int] = {}
    for old in program.relations:
      relation = _like(old, have, rng)
      if relation is None:
        break
      relations.append(relation)
      value = draw.answer_of(Program(tuple(relations), Relation("own", old.who)))
      if value is None:
        break
      have[old.who] = value
    else:
      final = _final_like(program.final, have, rng)
      if final is not None:
        found = Program(tuple(relations), final)
        if found != program and draw.acceptable(found):
          return found
  return None


def _like(old: Relation, have: dict[int, int], rng: random.Random) -> Relation | None:
  for _ in range(12):
    if old.compares:
      relation = draw.draw_comparison(rng, have[0])
    elif old.introduces:
      relation = draw.draw_start(rng, old.who)
    else:
      relation = draw.draw_change(rng, old.who, have[old.who], (old.kind,))
    if relation is not None and relation.kind == old.kind:
      return relation
  return None


def _final_like(old: Relation, have: dict[int, int], rng: random.Random) -> Relation | None:
  if old.kind in ("own", "total"):
    return old
  if old.kind == "diff":
    return None if have[0] == have[1] else Relation("diff", max(have, key=have.__getitem__))
  for _ in range(30):
    final = draw.draw_final(rng, have)
    if final is not None and (final.kind, final.who) == (old.kind, old.who):
      return final
  return None


def _insert(story: Story, rng: random.Random, kinds: tuple[str, ...]) -> Story | None:
  """Adds one change of one of the kinds somewhere after its person's first quantity."""
  relations = story.program.relations
  position = len(relations) if rng.random() < 0.6 else rng.randint(1, len(relations))
  who = rng.choice(sorted({relation.who for relation in relations[:position]}))
  value = draw.answer_of(Program(relations[:position], Relation("own", who)))
  relation = None if value is None else draw.draw_change(rng, who, value, kinds)
  if relation is None:
    return None
  program = Program((*relations[:position], relation, *relations[position:]), _refit(story.program.final, rng))
  choices = (*story.choices[:position], Choice.draw(rng), *story.choices[position:])
  return Story(program, story.scene, choices)


def _refit(final: Relation, rng: random.Random) -> Relation:
  """The final, with another goal or number in every second draw (the old one may no longer be possible)."""
  if not final.numbers or rng.random() < 0.5:
    return final
  number = rng.randint(10, 190) if final.kind == "need" else rng.randint(2, 5)
  return dataclasses.replace(final, numbers=(number,))


def _without_one(story: Story, rng: random.Random) -> Story | None:
  """The story less one change, so that a new step has room."""
  relations = story.program.relations
  removable = [i for i, relation in enumerate(relations) if not relation.introduces]
  if not removable:
    return None
  i = rng.choice(removable)
  program = Program(relations[:i] + relations[i + 1 :], story.program.final)
  return Story(program, story.scene, story.choices[:i] + story.choices[i + 1 :])


def _attempts(story: Story, rng: random.Random, rewrite: Rewrite) -> Story | None:
  """Tries a rewrite until it is sound; makes room first once that has to be."""
  old = level(story)
  for attempt in range(_TRIES):
    base: Story | None = story
    if old == max(draw.LEVELS) or (old == max(draw.LEVELS) - 1 and attempt > _TRIES // 2):
      base = _without_one(story, rng)
    found = None if base is None else rewrite(base, rng)
    if found is not None and found.program != story.program and draw.acceptable(found.program):
      if level(found) > old or level(found) == max(draw.LEVELS):
        return found
  return None


def add_constraint(story: Story, rng: random.Random) -> Story | None:
  """One more condition."""
  return _attempts(story, rng, lambda base, r: _insert(base, r, CONSTRAINTS))


def add_reasoning(story: Story, rng: random.Random) -> Story | None:
  """A relation that takes two steps, where the level leaves room for it."""
  return _attempts(story, rng, lambda base, r: _insert(base, r, REASONING)) or add_constraint(story, rng)


def deepen(story: Story, rng: random.Random) -> Story | None:
  """Asks for a further quantity: of what they have together, the difference, the price, the packs, a goal."""
  return _attempts(story, rng, _ask_further) or add_constraint(story, rng)


def _ask_further(story: Story, rng: random.Random) -> Story | None:
  program, choices = story.program, story.choices
  relations, final = program.relations, program.final
  amounts = {who: draw.answer_of(Program(relations, Relation("own", who))) for who in range(program.persons)}
  have = {who: amount for who, amount in amounts.items() if amount is not None}
  if have.keys() != amounts.keys():
    return None
  if final.kind in ("price", "pack", "share", "need", "diff"):
    return None
  if program.persons == 1 and rng.random() < 0.5:
    second = draw.draw_comparison(rng, have[0])
    if second is None:
      return None
    relations, choices = (*relations, second), (*choices[:-2], Choice.draw(rng), *choices[-2:])
    final = rng.choice((Relation("own", 1), Relation("total", BOTH), Relation("diff", rng.randrange(2))))
  else:
    asked = draw.draw_final(rng, have, 1)
    if asked is None or (final.kind == "total" and asked.who != BOTH):
      return None
    final = asked
  choices = (*choices[:-2], Choice.draw(rng), Choice.draw(rng))
  return Story(Program(relations, final), story.scene, choices)


def concretize(story: Story, rng: random.Random) -> Story | None:
  """Somebody for anybody, something for anything; else a colour or size; else a number said by its groups."""
  grouped = _grouped(story, rng) if story.scene.adjective and rng.random() < 0.8 else None
  return grouped or in_specific_scene(story, rng)


def in_specific_scene(story: Story, rng: random.Random) -> Story:
  """The story with names and objects for the general words, or else with a colour or size for its objects."""
  scene = story.scene
  if not scene.general:
    adjective = rng.choice([word for word in lexicon.ADJECTIVES if word != scene.adjective])
    return dataclasses.replace(story, scene=dataclasses.replace(scene, adjective=adjective))
  while True:
    specific = draw_scene(rng, general=0)
    if _same_gender(specific.persons, scene.persons):
      return dataclasses.replace(story, scene=specific)


def _same_gender(new: tuple[str, str], old: tuple[str, str]) -> bool:
  return all((a in lexicon.SHE) == (b in lexicon.SHE) for a, b in zip(new, old, strict=True))


def _grouped(story: Story, rng: random.Random) -> Story | None:
  """Says one plain number as groups of equal size: 12 more cards become 3 packs of 4 cards."""
  if level(story) == max(draw.LEVELS):
    return None
  relations = story.program.relations
  found = []
  for i, relation in enumerate(relations):
    if relation.kind in ("start", "gain"):
      number = whole(relation.numbers[0])
      found += [(i, k) for k in (2, 3, 4, 5) if number % k == 0 and number >= 2 * k]
  if not found:
    return None
  i, many = rng.choice(found)
  old = relations[i]
  new = Relation({"start": "groups", "gain": "ggain"}[old.kind], old.who, (many, whole(old.numbers[0]) // many))
  program = Program((*relations[:i], new, *relations[i + 1 :]), story.program.final)
  return dataclasses.replace(story, program=program)
