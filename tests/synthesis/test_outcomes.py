"""What a pass made is kept on disk: in the order of the jobs, twice-made instances once, and gone with the process."""

import dataclasses
import errno
import os
import tempfile

import pytest

from skymath_jax.errors import UserError
from skymath_jax.records import Instance, stable_id
from skymath_jax.synthesis.methods import Rejected
from skymath_jax.synthesis.outcomes import Outcomes


def made(number, method="xwin", query="Is \ud835 5 √?"):
  return Instance(
    id=stable_id(number), query=query, response="So.\nThe answer is 5", answer="5", method=method, parents=("p", "q"),
    stage=1, sampling={"temperature": 0.7, "seed": 3}, prompt={"name": "a"}, gold_match=True, level=2, tokens=9,
  )  # fmt: skip


def test_what_went_in_comes_out_in_the_order_of_the_jobs(tmp_path):
  outcomes, refused = Outcomes(tmp_path), Rejected(problem_id="p", method="evol.deepen", reason="error: 500", text="x")
  outcomes.put(7, [made(3), refused])
  outcomes.put(2, [])
  outcomes.put(0, [made(1), made(2, "evol.deepen")])
  outcomes.put(5, [dataclasses.replace(refused, text="y" * 900)])
  outcomes.finish()
  assert list(outcomes.instances()) == [made(1), made(2, "evol.deepen"), made(3)]
  assert list(outcomes.rejected()) == [dataclasses.replace(refused, text="y" * 500), refused]
  assert outcomes.by_method == {"evol.deepen": 1, "xwin": 2}
  assert outcomes.rejected_by_method == {"evol.deepen": {"error": 2}}
  both = zip(outcomes.instances(), outcomes.instances(), strict=True)  # two readers at once
  assert all(a == b for a, b in both)


def test_an_instance_made_again_is_kept_once_where_it_came_first(tmp_path):
  outcomes = Outcomes(tmp_path)
  for job, number in ((4, 1), (3, 2), (1, 1), (0, 3), (2, 1)):
    outcomes.put(job, [made(number)])
  outcomes.finish()
  said = dataclasses.replace(made(1), quality={"said": 3})
  assert list(outcomes.instances()) == [made(3), said, made(2)]
  assert list(outcomes.rejected()) == [Rejected(problem_id="p", method="xwin", reason="duplicate")] * 2
  assert outcomes.by_method == {"xwin": 3} and outcomes.rejected_by_method == {"xwin": {"duplicate": 2}}


def test_nothing_is_left_on_disk(tmp_path):
  outcomes = Outcomes(tmp_path)
  outcomes.put(0, [made(1)])
  assert not list(tmp_path.iterdir())
  assert not list(outcomes.finish().rejected())


def test_an_empty_pass(tmp_path):
  outcomes = Outcomes(tmp_path).finish()
  assert not list(outcomes.instances()) and not list(outcomes.rejected()) and not outcomes.by_method


def test_a_full_disk_is_explained(tmp_path, monkeypatch):
  class Full:
    def write(self, data):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self):
      pass

  with monkeypatch.context() as patch:
    patch.setattr(tempfile, "TemporaryFile", lambda dir: Full())
    outcomes = Outcomes(tmp_path)
  with pytest.raises(UserError, match="No space left") as caught:
    outcomes.put(0, [made(1)])
  assert str(tmp_path) in str(caught.value) and "free some disk space" in str(caught.value)
  with pytest.raises(UserError, match="No such file"):
    Outcomes(tmp_path / "none")
