"""`skymath teacher check` with a teacher in memory that wants other parameters than it is sent."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from skymath_jax import config as config_lib
from skymath_jax.cli import main as cli
from skymath_jax.errors import UserError
from skymath_jax.recipe import teacher_check
from skymath_jax.testing.teacher import ScriptedTeacher


class Endpoint(ScriptedTeacher):
  """Refuses `seed`; thinks in one field and answers in another."""

  def __init__(self, parameters):
    super().__init__(lambda prompt, seed: "Five and three.\nThe answer is 8.")
    self.parameters = parameters

  async def complete(self, request):
    if "seed" not in self.parameters.get("omit", []):
      remedy = """set --config.teacher.parameters='{"omit": ["seed"]}', or give it another name by "rename\""""
      raise UserError("the endpoint refuses a parameter", remedy=remedy)
    response = await super().complete(request)
    if self.parameters.get("answer") == "reasoning_content":
      return response
    return dataclasses.replace(response, text="", thought=response.text, counted=False)


@pytest.fixture
def endpoint(monkeypatch):
  class Teacher:
    def __init__(self, config, *_):
      self.client = lambda: Endpoint(json.loads(config.parameters or "{}"))

    def __enter__(self):
      return self

    def __exit__(self, *_):
      pass

  monkeypatch.setattr(teacher_check, "Teacher", Teacher)
  monkeypatch.setattr(teacher_check, "stages", SimpleNamespace(perform=lambda *_: raise_user_error()))


def raise_user_error():
  raise UserError("no seeds here")


def test_it_finds_what_the_endpoint_wants(endpoint):
  config = config_lib.changed(config_lib.Experiment(), {"teacher.backend": "openai"})
  found = teacher_check.check(config)
  assert found["set"] == ["""teacher.parameters='{"omit": ["seed"], "answer": "reasoning_content"}'"""]
  assert (found["answers"], found["parsed"], found["right"]) == (10, 10, 1)
  assert found["run"] == {"unknown": "no seeds here."} and found["usage"] == "counted by the endpoint"


def test_the_verb_wants_the_word_check(capsys):
  assert cli.call(["teacher", "--config=configs/quickstart.py"]) == 2
  assert "teacher check" in capsys.readouterr().err
