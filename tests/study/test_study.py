"""A whole study with a fake trainer: grid, resumption, verdicts, figures and page."""

import re
import shutil

import pytest

from skymath_jax import files
from skymath_jax.study import Study, plot, results
from skymath_jax.study.ablations import ABLATIONS
from skymath_jax.study.plan import Cell, normal
from tests.support.study import PROBLEMS, in_place, settings, write_sets


def make_all(config, workdir):
  found = Study(config, workdir)
  for seed in range(config.study.rng_seeds):
    found.make_all(seed)
  return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """(the fake, the study) of a study that is made, for tests that only look."""
  workdir = tmp_path_factory.mktemp("made")
  write_sets(workdir)
  with pytest.MonkeyPatch.context() as patch:
    return in_place(patch), make_all(settings(), workdir)


def test_cells_are_trained_on_what_their_names_say(made):
  fake, config = made[0], settings()
  trained = {name: (size, rate, seed) for name, size, rate, seed in fake.trained}
  assert len(fake.trained) == len(trained) == 30  # each once: the starts of the second phases were there
  one, two = config.training.stage1.learning_rate, config.training.stage2.learning_rate
  assert trained["normal-160.seed0"] == (160, one, 1) and trained["normal-160.seed1"] == (160, one, 1001)
  assert trained["normal-20+hard-20-late.seed1"] == (20, two, 1002)
  assert trained["normal-20-and-hard-20.seed0"] == (40, one, 1)
  assert fake.evaluated[0] == "base" and len(fake.evaluated) == 31


def test_a_killed_study_goes_on_and_keeps_what_is_complete(fake, workdir):
  config = settings(ablations=("methods",))
  fake.stop_at = "xwin-20.seed0"
  with pytest.raises(KeyboardInterrupt):
    make_all(config, workdir)
  done = list(fake.evaluated)
  assert 5 < len(done) < 17
  fake.stop_at = None
  make_all(config, workdir)
  assert len(fake.evaluated) == len(set(fake.evaluated)) == 17
  fake.trained.clear()
  make_all(config, workdir)
  assert not fake.trained


def test_weights_go_when_nothing_starts_from_them(fake, workdir):
  few = {"ablations": ("hard", "order")}
  fake.stop_at = "normal-20-and-hard-20.seed1"
  with pytest.raises(KeyboardInterrupt):
    make_all(settings(**few), workdir)
  assert [p.parent.name for p in workdir.glob("study/cells/*/weights")] == []
  fake.stop_at = "normal-20+hard-20-late.seed0"
  shutil.rmtree(workdir / "study")
  with pytest.raises(KeyboardInterrupt):
    make_all(settings(**few), workdir)
  assert [p.parent.name for p in workdir.glob("study/cells/*/weights")] == ["normal-20.seed0"]
  shutil.rmtree(workdir / "study")
  fake.stop_at = None
  found = make_all(settings(keep_checkpoints=True, **few), workdir)
  assert len(list(workdir.glob("study/cells/*/weights"))) == len(found.cells) - 1


def test_a_lost_start_is_made_again(fake, workdir):
  config = settings(ablations=())
  make_all(config, workdir)
  assert not list(workdir.glob("study/cells/*/weights"))
  make_all(settings(ablations=("hard",)), workdir)
  names = [name for name, *_ in fake.trained]
  assert names.count("normal-20.seed0") == 2 and names.count("normal-20+hard-20-late.seed0") == 1


def test_other_data_makes_the_cells_anew(fake, workdir):
  make_all(settings(ablations=()), workdir)
  before = len(fake.trained)
  write_sets(workdir, salt=1000)
  make_all(settings(ablations=()), workdir)
  assert len(fake.trained) == 2 * before


def test_a_pool_that_is_too_small_is_told_before_anything_is_trained(fake, workdir, run_study):
  with pytest.raises(Exception, match="needs 500 random normal instances, there are 400"):
    run_study(settings(sizes=(10, 20, 40, 500)), workdir)
  assert not fake.trained


def test_summary_counts_the_predictions(made):
  study = made[1]
  summary = results.summarize(study)
  assert [point["size"] for point in summary["curve"]] == [10, 20, 40, 80, 160]
  accuracies = [point["accuracy"] for point in summary["curve"]]
  assert accuracies == sorted(accuracies)
  for point in summary["curve"]:
    rows = [
      files.read_json(study.folder(Cell(phases=(normal(point["size"]),), rng_seed=seed)) / "summary.json")["accuracy"]
      for seed in range(2)
    ]
    assert point["by_seed"] == [row["all"] for row in rows]
    assert point["accuracy"] == pytest.approx(sum(point["by_seed"]) / 2)
    assert point["ci95"][0] <= point["accuracy"] <= point["ci95"][1]
  for found in summary["fits"].values():
    assert found["sizes"] == [10, 20, 40, 80] and found["held_out"]["size"] == 160
    assert found["held_out"]["measured"] == accuracies[-1]
  assert len(summary["cells"]) == summary["cells_wanted"] == 31
  assert summary["cells"][1]["set"]["instances"] == 10


def test_verdicts_follow_from_the_intervals(made):
  summary = results.summarize(made[1])
  assert set(summary["ablations"]) == set(ABLATIONS)
  for name, found in summary["ablations"].items():
    for other, compared in found["comparisons"].items():
      low, high = compared["ci95"]
      sign = ABLATIONS[name].expected
      wanted = "cannot tell" if low <= 0 <= high else "agrees" if low * sign > 0 else "disagrees"
      assert compared["verdict"] == wanted
      arms = found["arms"]
      assert compared["difference"] == pytest.approx(arms[found["subject"]]["accuracy"] - arms[other]["accuracy"])
      assert f"{other} {100 * compared['difference']:+.1f} [".replace("-", "−") in found["sentence"].replace("-", "−")
    assert ABLATIONS[name].claim in found["sentence"]


def test_what_is_not_complete_is_left_out(fake, workdir):
  fake.stop_at = "normal-80.seed1"
  with pytest.raises(KeyboardInterrupt):
    make_all(settings(), workdir)
  summary = results.summarize(Study(settings(), workdir))
  assert all(len(point["by_seed"]) == 1 for point in summary["curve"])  # only seed 0 has all sizes
  assert set(summary["ablations"]) == set(ABLATIONS)
  found = results.answers(Study(settings(), workdir), (normal(10),))
  assert found.correct.shape == (2, PROBLEMS)
  (workdir / "study" / "cells" / Cell(phases=(normal(160),)).name / "COMPLETE.json").unlink()
  summary = results.summarize(Study(settings(), workdir))
  assert [point["size"] for point in summary["curve"]] == [10, 20, 40, 80]


def test_figures_and_page(fake, workdir, run_study):
  summary = run_study(settings(rng_seeds=1), workdir)
  plots = workdir / "study" / "plots"
  names = {f"{name}{width}.{kind}" for name in ("scaling", "levels", "ablations") for width in ("", "_narrow")
           for kind in ("png", "svg")}  # fmt: skip
  assert {path.name for path in plots.iterdir()} == names
  assert all(path.read_bytes()[:4] in (b"\x89PNG", b"<?xm") for path in plots.iterdir())
  page = (workdir / "study" / "report.html").read_text()
  assert "default-src 'none'" in page and "<script" not in page
  assert not re.findall(r'(?:src|srcset|href)="(?!data:|#)', page)
  assert page.count("<picture>") == 3 and page.count('alt="') == 3
  text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
  for point in summary["curve"]:
    assert re.search(rf"{point['size']:,} {100 * point['accuracy']:.1f}\s%", text)
  for found in summary["ablations"].values():
    assert found["title"] in text
  for answer in ("r base", "r normal-20.seed0", "r normal-20+hard-20-late.seed0"):
    assert answer in text


def test_equal_results_give_equal_figures(tmp_path):
  points = [
    {"size": size, "accuracy": a, "ci95": [a - 0.02, a + 0.02], "by_seed": [a - 0.01, a + 0.01], "by_level": {"1": a}}
    for size, a in ((10, 0.1), (100, 0.3), (1000, 0.5))
  ]
  summary = {"curve": points, "fits": {}, "base": None, "ablations": {}}
  for copy in ("a", "b"):
    assert plot.write(summary, tmp_path / copy, names=("levels",)) == ["levels"]
  files_a, files_b = ({p.name: p.read_bytes() for p in (tmp_path / copy).iterdir()} for copy in ("a", "b"))
  assert files_a == files_b and len(files_a) == 4
  assert plot.write(summary, tmp_path / "c", names=("ablations",)) == []
