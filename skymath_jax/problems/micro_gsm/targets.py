"""Training text: for the micro teacher, every prompt the pipeline sends with its oracle completion; for the micro base,
the language and the arithmetic of the world without any answered question.

No text holds a problem of the test split: whatever appears is checked by its canonical key.
"""

import dataclasses
import random
from collections.abc import Callable, Iterator
from typing import Any

from skymath_jax import prompts
from skymath_jax.problems.micro_gsm import algebra, draw, puzzle, rewriting, solution
from skymath_jax.problems.micro_gsm.program import FRACTION_KINDS, Program, Relation, whole
from skymath_jax.problems.micro_gsm.puzzle import Puzzle
from skymath_jax.problems.micro_gsm.story import Story, draw_scene
from skymath_jax.records import ANSWER_MARKER

Example = tuple[str, dict[str, Any], str]  # (prompt name, its fields, completion)

# Share of each prompt among the teacher's examples.
SHARES: dict[str, float] = {
  "metamath/solve": 0.36,
  "metamath/solve_backward": 0.16,
  "metamath/rephrase": 0.08,
  "metamath/declare": 0.03,
  "evol/new_problem": 0.05,
  "evol/add_constraint": 0.05,
  "evol/deepen": 0.05,
  "evol/concretize": 0.04,
  "evol/add_reasoning": 0.05,
  "xwin/create": 0.07,
  "xwin/solve": 0.06,
}
_SOLVE_LEVELS = (0.08, 0.14, 0.22, 0.27, 0.29)
_OTHER_LEVELS = (0.22, 0.22, 0.22, 0.19, 0.15)
_BACKWARD = 0.15  # share of backward questions among those of the other prompts


def draw_story(rng: random.Random, split: str = "train", levels: tuple[float, ...] = _OTHER_LEVELS) -> Story:
  """A random problem of `split` in random wording."""
  level = rng.choices(draw.LEVELS, levels)[0]
  return Story.draw(draw.draw_program(rng, level, split), draw_scene(rng), rng)


def _solve(story: Story, rng: random.Random) -> Example | None:
  if rng.random() < _BACKWARD:
    return _worked_puzzle("metamath/solve", story, rng)
  return "metamath/solve", {"question": story.question}, solution.solution(story.program, story.scene, rng)


def _solve_backward(story: Story, rng: random.Random) -> Example | None:
  return _worked_puzzle("metamath/solve_backward", story, rng)


def _worked_puzzle(name: str, story: Story, rng: random.Random) -> Example | None:
  hidden = puzzle.hide(story, rng)
  if hidden is None:
    return None
  text = hidden.solution(2 if rng.random() < 0.3 else 0)
  return (name, {"question": hidden.question}, text) if text else None


def _xwin_solve(story: Story, rng: random.Random) -> Example | None:
  made = _solve(story, rng)
  if made is None:
    return None
  body, _, answer = made[2].rpartition(f"\n{ANSWER_MARKER}")
  return "xwin/solve", made[1], f"SOLUTION:\n{body}\nFINAL ANSWER:\n{answer}"


def _rephrase(story: Story, rng: random.Random) -> Example | None:
  told = _asked(story, rng)
  again = dataclasses.replace(told, story=story.retold(rng)) if isinstance(told, Puzzle) else story.retold(rng)
  if again.question == told.question:
    return None
  return "metamath/rephrase", {"question": told.question}, again.question


def _asked(story: Story, rng: random.Random) -> Story | Puzzle:
  """The story, at times as a backward question: a second pass starts from those of the first."""
  return (puzzle.hide(story, rng) if rng.random() < _BACKWARD else None) or story


def _declare(story: Story, rng: random.Random) -> Example:
  del rng
  answer = draw.answer_of(story.program)
  return "metamath/declare", {"question": story.closing, "answer": answer}, story.statement(answer)


def _rewrite(name: str, rewrite: rewriting.Rewrite) -> Callable[[Story, random.Random], Example | None]:
  def example(story: Story, rng: random.Random) -> Example | None:
    told = _asked(story, rng)
    found = _rewrite_puzzle(name, told, rng) if isinstance(told, Puzzle) else rewrite(story, rng)
    if found is None or found.question == told.question:
      return None
    program = (found.story if isinstance(found, Puzzle) else found).program
    return (name, {"question": told.question}, found.question) if program.split == story.program.split else None

  return example


def _rewrite_puzzle(name: str, told: Puzzle, rng: random.Random) -> Story | Puzzle | None:
  """A backward question is made harder at its end, where only the told answer changes with it."""
  if name == "evol/new_problem":
    return rewriting.new_problem(told.story, rng)
  if name == "evol/concretize":
    return dataclasses.replace(told, story=rewriting.in_specific_scene(told.story, rng))
  kinds = rewriting.REASONING if name == "evol/add_reasoning" else ("gain", "loss")
  return puzzle.lengthened(told, rng, kinds)


def _xwin_create(story: Story, rng: random.Random) -> Example | None:
  """A new question, its check by solving, the final question; one in four is created with a flaw and mended."""
  final = rewriting.new_problem(story, rng)
  if final is None or final.program.split != story.program.split:
    return None
  created, verdict = final, None
  if rng.random() < 0.25:
    flawed = _flawed(final, rng)
    if flawed is not None:
      created, verdict = flawed
  if verdict is None:
    sentences, _ = solution.forward_steps(final.program, final.scene)
    verdict = f"{' '.join(sentences)} The question makes sense."
  text = (
    f"CREATED QUESTION:\n{created.question}\nVERIFICATION AND MODIFICATION:\n{verdict}\n"
    f"FINAL CREATED QUESTION:\n{final.question}"
  )
  return "xwin/create", {"question": _asked(story, rng).question}, text


def _flawed(story: Story, rng: random.Random) -> tuple[Story, str] | None:
  """The story with one number that makes it impossible, and the check that finds and mends it."""
  relations = (*story.program.relations, story.program.final)
  places = [(i, j) for i, r in enumerate(relations) if r.kind not in FRACTION_KINDS for j in range(len(r.numbers))]
  for _ in range(8):
    i, j = rng.choice(places)
    right = whole(relations[i].numbers[j])
    wrong = rng.randint(2, 9) if right < 10 else rng.randint(10, 99)
    numbers = (*relations[i].numbers[:j], wrong, *relations[i].numbers[j + 1 :])
    changed = (*relations[:i], dataclasses.replace(relations[i], numbers=numbers), *relations[i + 1 :])
    program = Program(changed[:-1], changed[-1])
    fits = wrong != right and program.split == story.program.split
    check = _failing_check(program, story) if fits else None
    if check is not None:
      return dataclasses.replace(story, program=program), f"{check} Change {wrong} to {right}."
  return None


def _failing_check(program: Program, story: Story) -> str | None:
  """The computation up to the step that fails; None if none does."""
  built = algebra.system(program)
  values = list(built.values)
  sentences: list[str] = []
  for equation in built.equations:
    left, right = values[equation.left], values[equation.right]
    assert left is not None and right is not None, program  # nothing is masked, and what fails ends it
    value = algebra.apply(equation.op, left, right)
    if not algebra.sound(value):
      why = "is no whole number" if equation.op == "/" else "is too small"
      return " ".join([*sentences, f"{left} {equation.op} {right} {why}."])
    values[equation.out] = value
    derivation = algebra.Derivation(equation.out, left, equation.op, right, value, (equation.left, equation.right))
    sentences.append(solution.step(built, derivation, story.scene))
  return None


_MAKERS: dict[str, Callable[[Story, random.Random], Example | None]] = {
  "metamath/solve": _solve,
  "metamath/solve_backward": _solve_backward,
  "metamath/rephrase": _rephrase,
  "metamath/declare": _declare,
  "evol/new_problem": _rewrite("evol/new_problem", rewriting.new_problem),
  "evol/add_constraint": _rewrite("evol/add_constraint", rewriting.add_constraint),
  "evol/deepen": _rewrite("evol/deepen", rewriting.deepen),
  "evol/concretize": _rewrite("evol/concretize", rewriting.concretize),
  "evol/add_reasoning": _rewrite("evol/add_reasoning", rewriting.add_reasoning),
  "xwin/create": _xwin_create,
  "xwin/solve": _xwin_solve,
}


def example(name: str, rng: random.Random, split: str = "train") -> Example:
  """One example of a prompt."""
  levels = _SOLVE_LEVELS if name in ("metamath/solve", "xwin/solve") else _OTHER_LEVELS
  while True:
    found = _MAKERS[name](draw_story(rng, split, levels), rng)
    if found is not None:
      return found


def teacher_examples(n: int, rng_seed: int) -> Iterator[Example]:
  """`n` examples (prompt name, fields, completion) over all prompts in the shares of `SHARES`, in random order."""
  rng = random.Random(f"teacher {rng_seed}")
  names, weights = zip(*SHARES.items(), strict=True)
  for _ in range(n):
    yield example(rng.choices(names, weights)[0], rng)


def base_examples(n: int, rng_seed: int) -> Iterator[str]:
  """`n` plain texts of the world, in the shares of `BASE_SHARES`: a base model's language and arithmetic.

  None of them is a problem with its solution: the stories that are computed have no question, and those whose
  computation is not beside each sentence have at most two steps.
  """
  rng = random.Random(f"base {rng_seed}")
  makers, weights = [maker for maker, _ in BASE_SHARES], [share for _, share in BASE_SHARES]
  for _ in range(n):
    yield rng.choices(makers, weights)[0](rng)


def _question(rng: random.Random) -> str:
  return draw_story(rng).question


def _said_twice(rng: random.Random) -> str:
  _, fields, completion = example("metamath/rephrase", rng)
  return f"{fields['question']}\n{completion}"


def _annotated(rng: random.Random) -> str:
  return annotated(draw_story(rng))


def _retold(rng: random.Random) -> str:
  """A short story without its question, then its computation."""
  story = draw_story(rng, levels=_SHORT)
  steps, _ = solution.forward_steps(story.program, story.scene, solution.draw_style(rng))
  return f"{' '.join(story.body)}\n{' '.join(steps)}"


def drill(rng: random.Random) -> str:
  """Lines of arithmetic in the world's range."""
  return "\n".join(_drill_line(rng) for _ in range(6))


_SHORT = (0.5, 0.5, 0.0, 0.0, 0.0)  # levels of the stories that are told and then computed
BASE_SHARES: tuple[tuple[Callable[[random.Random], str], float], ...] = (
  (_question, 0.1),
  (drill, 0.15),
  (_annotated, 0.3),
  (_retold, 0.25),
  (_said_twice, 0.2),
)


def _drill_line(rng: random.Random) -> str:
  kind = rng.randrange(6)
  if kind in (0, 1):
    a, b = rng.randint(2, 150), rng.randint(2, 60)
    op = "+" if kind == 0 else "-"
    if op == "-" and b >= a:
      a, b = b + 1, a
    return solution.equation(a, op, b, algebra.apply(op, a, b))
  many = rng.randint(2, 5)
  if kind in (2, 3):
    each = rng.randint(2, 150 // many)
    a, b = (many, each) if rng.random() < 0.5 else (each, many)
    return solution.equation(a, "*", b, a * b) if kind == 2 else solution.equation(many * each, "/", many, each)
  percent = rng.choice((10, 20, 25, 50))
  part = rng.randint(2, 200 * percent // 100)
  whole = part * 100 // percent
  if kind == 4:
    return f"{percent}% of {whole} is {solution.equation(whole, '/', 100 // percent, part)}"
  divider, word = rng.choice(((2, "half"), (3, "a third"), (4, "a quarter")))
  part = rng.randint(2, 150 // divider)
  return f"{word} of {divider * part} is {solution.equation(divider * part, '/', divider, part)}"


def annotated(story: Story) -> str:
  """Each sentence of the story followed by its computation; the question replaced by its statement."""
  relations = story.program.relations
  built = algebra.system(story.program)
  values = algebra.forward(built)
  assert values is not None, story
  equations = [solution.equation(d.left, d.op, d.right, d.value) for d in algebra.steps(built, values)]
  parts, done = [], 0
  for i, sentence in enumerate(story.body):
    if i < len(relations):
      count = draw.level_of(Program(relations[: i + 1], Relation("own", relations[i].who)))
      parts.append(_with(sentence, equations[done:count]))
      done = count
    else:
      parts.append(sentence)
  parts.append(_with(story.statement(values[built.answer]), equations[done:]))
  return " ".join(parts)


def _with(sentence: str, equations: list[str]) -> str:
  return f"{sentence[:-1]}: {' and '.join(equations)}." if equations else sentence


def sentences(n: int, seed: int) -> Iterator[str]:
  """`n` texts to train a tokenizer on: prompts filled in, completions and base text in equal shares."""
  for i, (name, fields, completion) in enumerate(teacher_examples(n, seed)):
    if i % 3 == 0:
      yield prompts.load(name).render(**fields)
    elif i % 3 == 1:
      yield completion
    else:
      yield from base_examples(1, seed + i)
