"""The page of a run under way: true to its files, safe whatever a model wrote, and unnoticed by the run."""

import asyncio
import json
import os
import re
import time

import pytest
from aiohttp.test_utils import TestClient, TestServer

from skymath_jax import files
from skymath_jax.cli import main as cli
from skymath_jax.errors import UserError
from skymath_jax.report import live, watch
from skymath_jax.synthesis import ResponseStore, synthesize
from skymath_jax.synthesis import progress as progress_lib
from skymath_jax.testing.teacher import ScriptedTeacher
from tests.support.synthesis import SAMPLING, SETTINGS, toy_problems


def state(folder):
  return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


def told(copy, **changes):
  now = time.time()
  row = {"seed": "Two and $\\frac{1}{2}$?", "query": "New?", "response": "R", "method": "xwin", "gold_match": True}
  found = {
    "name": "synthesis stage 2 pass 1", "jobs": {"done": 250, "total": 1000}, "began": now - 100, "written": now,
    "requests": {"asked": 300, "sent": 280, "replayed": 20, "failed": 3, "retried": 7}, "spent": 1.5,
    "tokens": {"prompt": 10_000, "completion": 20_000}, "by_method": {"xwin": 200},
    "rejected_by_method": {"xwin": {"truncated": 9, "error": 3}, "evol.deepen": {"truncated": 2}},
    "pace": [[0, 0, 0], [90, 200, 10_000], [100, 280, 20_000]], "newest": [row],
    "rejected": [{"seed": "S", "method": "xwin", "reason": "truncated", "text": "cut"}], **changes,
  }  # fmt: skip
  files.write_json(copy / "synthesis/stage2/progress.json", found)


def test_a_finished_run(finished):
  before = state(finished)
  page = watch.page(finished)
  assert state(finished) == before
  assert "Stage 1: complete" in page and "Training loss" in page and "after stage\u00a02" in page
  assert page.count("<details") == 6 and "<strong>Seed</strong>" in page


def test_a_running_pass(copy):
  told(copy)
  page = watch.page(copy)
  for part in ("250 of 1,000", "25.0", "about 300 s left", "8.0 requests/s, 1,000 tokens/s", "2.8 requests/s",
               "truncated 11, error 3", "1.50", "retried 7", "as the gold answer", "<mfrac>"):  # fmt: skip
    assert part in page, part
  assert "No sign of life" not in page
  told(copy, written=time.time() - 500)
  assert "No sign of life for 500 s" in watch.page(copy)


def test_whatever_a_model_wrote_is_text(copy, attack):
  row = dict.fromkeys(("seed", "query", "response", "thought", "method", "reason", "text"), attack + f"${attack}$")
  told(copy, name=attack, newest=[row], rejected=[row], by_method={attack: 1}, requests={attack: 1},
       rejected_by_method={attack: {attack: 1}})  # fmt: skip
  page = watch.page(copy)
  assert not re.search(r"<(script|img|a|iframe|form|object|embed)\b", page) and "&lt;script&gt;" in page
  assert "default-src 'none'" in page


@pytest.mark.parametrize(
  "broken",
  ["", "{", "[]", "null", '{"jobs": 3, "pace": [[1], [2, "x", 3]], "newest": [1, {}]}', '{"jobs": {"done": 1}}',
   '{"pace": [[1, 2, 3], [1, 2, 3]], "began": null, "rejected_by_method": {"a": 1}, "newest": [{"query": [1]}]}'],
)  # fmt: skip
def test_files_that_are_broken_or_being_written(copy, broken):
  (copy / "synthesis/stage2/progress.json").write_text(broken)
  for name in ("metrics.jsonl", "../stage1/metrics.jsonl"):
    with (copy / "checkpoints/stage2" / name).open("a") as file:
      file.write('{"step": 12, "lo')
  assert "Training loss" in watch.page(copy)


def test_an_almost_empty_workdir(tmp_path):
  with pytest.raises(UserError, match="no workdir"):
    watch.page(tmp_path)
  files.write_json(tmp_path / "config.json", {})
  assert "Not begun" in watch.page(tmp_path)


def test_a_pass_tells_how_far_it_is_and_takes_the_file_away(tmp_path, monkeypatch):
  monkeypatch.setattr(progress_lib, "EVERY_SECONDS", 0.0)
  files.write_json(tmp_path / "config.json", {"name": "n"})
  path, seen = tmp_path / "synthesis/stage1/progress.json", []

  class Teacher(ScriptedTeacher):
    async def complete(self, request):
      if path.exists():
        seen.append((json.loads(path.read_text()), watch.page(tmp_path)))
      return await super().complete(request)

  async def run():
    with ResponseStore(path.with_name("responses.sqlite")) as store:
      await synthesize(
        toy_problems(6), {"rephrase": 1.0, "fobar": 1.0}, Teacher(), store,
        stage=1, sampling=SAMPLING, rng_seed=7, settings=SETTINGS, concurrency=2, max_rejected=1.0,
      )  # fmt: skip

  asyncio.run(run())
  done = [found["jobs"]["done"] for found, _ in seen]
  assert not path.exists() and done == sorted(done) and done[-1] > 8 and seen[-1][0]["jobs"]["total"] == 12
  assert all(f"{found['jobs']['done']} of 12" in page for found, page in seen)
  assert seen[-1][0]["newest"][-1].keys() >= {"seed", "query", "response", "method"}


def test_the_server_answers_this_machine_alone(copy):
  async def run():
    async with TestClient(TestServer(live.app(copy))) as client:
      good = await client.get("/")
      assert good.status == 200 and "Synthesis" in await good.text()
      assert "default-src 'none'" in good.headers["Content-Security-Policy"]
      for name in ("evil.example", "127.0.0.1.evil.example", ""):
        assert (await client.get("/", headers={"Host": f"{name}:80"})).status == 403
      assert (await client.post("/")).status == 405
      assert (await client.get("/../config.json")).status == 404

  before = state(copy)
  asyncio.run(run())
  assert state(copy) == before


def test_the_verb(copy, tmp_path, capsys):
  assert cli.call(["watch", str(copy), f"--out={tmp_path / 'page.html'}"]) == 0
  assert "refresh" not in (tmp_path / "page.html").read_text() and os.path.getsize(tmp_path / "page.html") > 5000
  assert cli.call(["watch", str(tmp_path / "nothing")]) == 1
  assert "no workdir" in capsys.readouterr().err
