"""What a run says of itself beforehand: every stage with its work, and a refusal where the machine has no room."""

import dataclasses
import math

import pytest

from skymath_jax import config, files
from skymath_jax.engine import memory
from skymath_jax.errors import UserError
from skymath_jax.recipe import forecast, stages, synthesize
from tests.support.small_recipe import ROOT


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  quickstart = config.resolve(config.load(ROOT / "configs" / "quickstart.py"))
  experiment = config.changed(quickstart, {"seeds.limit": 40, "evaluation.limit": 40})
  with stages.opened(experiment, tmp_path_factory.mktemp("forecast") / "run") as run:
    stages.recipe(experiment)[0].work(run)
    yield run


def rows_of(run):
  return forecast.forecast(run, stages.recipe(run.config))


def test_every_stage_that_costs_something_has_its_row(run):
  rows = rows_of(run)
  assert [row.stage for row in rows] == [
    *("synthesize stage 1", "synthesize stage 2", "train stage 1", "train stage 2"),
    *("evaluate base", "evaluate stage1", "evaluate stage2", "export"),
  ]
  assert all(row.seconds is not None and 0 <= row.seconds < 3600 and row.disk > 0 for row in rows)
  said = list(forecast.lines(rows))
  assert len(said) == len(rows) + 1 and "requests at most" in said[0] and "of memory at most" in said[-1]


def test_twice_the_work_takes_twice_the_time_beyond_what_every_stage_takes(run):
  shape = forecast.train.step_of(run.config)[0]
  pace = forecast.Pace(1e9, forecast.CPU)
  once, twice = (pace.seconds(shape, prefill=n, decode=n, train=n) - forecast.START_SECONDS for n in (1e6, 2e6))
  assert math.isclose(twice, 2 * once)
  assert pace.seconds(shape, train=1e6) < forecast.Pace(1e8, forecast.CPU).seconds(shape, train=1e6)


def test_an_endpoint_is_as_fast_as_it_is(run):
  teacher = dataclasses.replace(run.config.teacher, backend="openai", addresses=("http://127.0.0.1:1/v1",))
  other = dataclasses.replace(run, config=dataclasses.replace(run.config, teacher=teacher))
  rows = rows_of(other)
  assert rows[0].seconds is None and "as fast as the teacher answers" in next(forecast.lines(rows))


def test_a_student_takes_this_machines_time_and_none_of_the_money(run):
  changes = {"synthesis.hard": {"answer_augmentation": 2.0}, "teacher.backend": "openai", "teacher.prices": (1.0, 1.0)}
  costs = []
  for student in (False, True):
    other = dataclasses.replace(run, config=config.changed(run.config, {**changes, "synthesis.student": student}))
    seconds = {row.stage: row.seconds for row in rows_of(other)}
    assert seconds["synthesize stage 1"] is None and (seconds["synthesize stage 2"] is None) != student
    costs.append(synthesize.plan(other)["total"]["completion_tokens"])
  assert costs[0] > costs[1] > 0


@pytest.mark.parametrize("place, bound", [((memory, "usable"), "memory"), ((files, "free_bytes"), "disk")])
def test_no_room_is_told_with_the_figures(run, monkeypatch, place, bound):
  rows = rows_of(run)
  forecast.require(rows, run, forecast.Pace.here())
  monkeypatch.setattr(*place, lambda *_: 1000)
  with pytest.raises(UserError, match=rf"of {bound}, and 0\.0 "):
    forecast.require(rows, run, forecast.Pace.here())
