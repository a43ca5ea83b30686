"""How a model is asked: in its own chat template, or in the frame that it was trained with."""

import types

import pytest

from skymath_jax import config as config_lib
from skymath_jax.errors import UserError
from skymath_jax.recipe import evaluate

CHATTY = types.SimpleNamespace(chat_template="{{ messages[0].content }}")
BARE = types.SimpleNamespace(chat_template=None)


def how(tokenizer, *, trained, **settings):
  config = config_lib.changed(config_lib.Experiment(), {f"evaluation.{key}": v for key, v in settings.items()})
  return evaluate.template_of(config, tokenizer, trained=trained).name


def test_a_model_of_others_is_asked_in_its_own_template_and_one_of_ours_as_it_was_trained():
  assert how(CHATTY, trained=False, template="chat") == "chat:ask/answer"
  assert how(CHATTY, trained=False, template="chat", mode="symbolic") == "chat:ask/boxed"
  assert how(CHATTY, trained=False, template="chat:raw") == "chat:raw"
  assert how(BARE, trained=False, template="raw") == "raw"
  assert how(CHATTY, trained=True, template="chat") == "sft/alpaca"
  assert how(CHATTY, trained=False, template="") == "sft/alpaca"


def test_a_model_without_a_chat_template_is_told_of():
  with pytest.raises(UserError, match=r"config\.evaluation\.template.*no chat template"):
    how(BARE, trained=False, template="chat")
