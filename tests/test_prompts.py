"""Prompts: every file renders, fields are checked, and the hash changes with the text."""

import re

import jinja2
import pytest

from skymath_jax import prompts
from skymath_jax.errors import UserError

EVERY = [*prompts.names(), *prompts.names(*prompts.OPTIONAL)]


@pytest.mark.parametrize("name", EVERY)
def test_every_prompt_renders_with_its_fields_verbatim(name):
  prompt = prompts.load(name)
  fields = re.findall(r"\{\{ (\w+) \}\}", prompt.text)
  assert fields
  text = prompt.render(**{field: f"<{field} {{{{ x }}}} & $\\frac12$>" for field in fields})
  for field in fields:
    assert f"<{field} {{{{ x }}}} & $\\frac12$>" in text  # never escaped, never rendered a second time
  for literal in prompt.literals:
    assert literal in text


def test_a_missing_field_and_an_unknown_prompt_are_refused():
  with pytest.raises(jinja2.UndefinedError):
    prompts.load("sft/alpaca").render()
  with pytest.raises(UserError, match="no prompt named 'sft/alpacca'"):
    prompts.load("sft/alpacca")


def test_prompts_that_a_model_continues_end_with_one_newline():
  for name in EVERY:
    if name != "raw" and not name.endswith("_question"):
      assert prompts.load(name).text.endswith("\n"), name


def test_plain_names_are_what_the_bundled_models_know():
  """Others may come with a method; these stay, or vocabulary and skill of the bundled models would be others'."""
  theirs = [name for name in prompts.names() if name.partition("/")[0] in ("evol", "metamath", "raw", "sft", "xwin")]
  assert len(theirs) == 15 and not any(name.startswith(prompts.OPTIONAL) for name in prompts.names())


def test_every_prompt_that_is_asked_has_examples_in_both_styles():
  asked = [n for n in prompts.names("evol", "metamath", "xwin") if not n.endswith("_question")]
  for style in prompts.STYLES:
    for name in asked:
      shown, plain = prompts.load(prompts.few_shot(name, style)), prompts.load(name)
      assert shown.name == f"few_shot/{style}/{name}"
      assert shown.text.startswith(plain.text.partition("\n\n")[0]) and shown.literals[-1] == plain.literals[-1]
  assert prompts.few_shot("metamath/fobar_question", "math") == "metamath/fobar_question"


def test_what_to_do_with_a_drawing_is_said_where_there_is_one():
  asked = [n for n in EVERY if n.rpartition("/")[0].endswith("evol") or n.endswith(("rephrase", "xwin/create"))]
  assert len(asked) == 3 * 7
  for name in asked:
    without, drawn = (prompts.load(name).render(question=f"Q{d}") for d in ("", " [asy] draw(A--B); [/asy]"))
    assert "[asy]" not in without and "{%" not in without and "  " not in without
    assert "from [asy] to [/asy]" in drawn.replace("Q [asy] draw(A--B); [/asy]", "")


def test_choices_are_to_fit_the_new_problem():
  asked = [n for n in EVERY if n.rpartition("/")[0].endswith("evol") or n.endswith("xwin/create")]
  assert len(asked) == 3 * 6
  for name in asked:
    open_ended, choices = (prompts.load(name).render(question=q) for q in ("Q (A)", "Q (A) 1 (B) 2"))
    assert "choices" not in open_ended and "  " not in choices and "choices are given, give such that fit" in choices
