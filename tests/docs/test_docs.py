"""A newcomer types what the documentation says: every block is run, or parsed and checked where it needs more."""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from skymath_jax import config as config_lib
from skymath_jax.cli import flags
from skymath_jax.cli import main as cli
from tests.support.documentation import NEEDS, PAGES, ROOT, blocks

BLOCKS = blocks()
RUN = [block for block in BLOCKS if not block.needs]
QUICK = {"tpu_scripts", "docs/estimates.py", "--help", "config", "import"}


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
  """A copy of the working tree under git, as a newcomer has it, with `skymath` and `python` on PATH."""
  folder = tmp_path_factory.mktemp("clone") / "skymath_jax"
  listed = subprocess.check_output(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z"], text=True)
  for name in listed.split("\0"):
    if name and (ROOT / name).is_file():
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(ROOT / name, folder / name)
  git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
  for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
    subprocess.run([*git, *command], check=True)
  programs = folder.parent / "bin"
  programs.mkdir()
  for name, command in (("skymath", f"{sys.executable} -m skymath_jax.cli"), ("python", sys.executable)):
    (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    (programs / name).chmod(0o755)
  return folder


def environment(clone, **more):
  path = f"{clone.parent / 'bin'}:{os.environ['PATH']}"
  return {**os.environ, "PATH": path, "PYTHONPATH": str(clone), "JAX_PLATFORMS": "cpu", **more}


def run(text, clone, **more):
  done = subprocess.run(
    ["bash", "-euo", "pipefail", "-c", text], cwd=clone, env=environment(clone, **more), capture_output=True, text=True,
    stdin=subprocess.DEVNULL, timeout=500, check=False,
  )  # fmt: skip
  assert done.returncode == 0, f"{text}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
  return done.stdout


def quick(block):
  return all(
    any(word in QUICK or word.split("/")[0] in QUICK for word in c) or c[0] in ("cat", "export")
    for c in block.commands()
  )


@pytest.mark.parametrize("block", [b for b in RUN if quick(b)], ids=lambda b: b.name)
def test_quick_blocks_run(block, clone):
  run(block.text, clone)


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in RUN if not quick(b)], ids=lambda b: b.name)
def test_other_blocks_run(block, clone):
  run(block.text, clone)


@pytest.mark.slow
def test_the_blocks_about_a_server_run_with_the_server_that_the_page_starts(clone):
  (start,) = [b for b in BLOCKS if b.needs == "background"]
  with (clone / "server.out").open("w+") as out:
    server = subprocess.Popen(
      ["bash", "-c", f"exec {start.text}"], cwd=clone, env=environment(clone), stdout=out, start_new_session=True
    )
    try:
      for _ in range(600):
        with contextlib.suppress(subprocess.TimeoutExpired):
          server.wait(0.5)
        if "ready" in Path(out.name).read_text():
          break
        assert server.poll() is None
      for block in [b for b in BLOCKS if b.needs == "server"]:
        said = run(block.text, clone)
        if "/v1/completions" in block.text:
          assert '"text"' in said
    finally:
      server.terminate()
      server.wait(60)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.name)
def test_every_block_is_shell_and_says_what_it_needs(block):
  assert not block.needs or set(block.needs.split(", ")) <= NEEDS
  done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
  assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def flags_of():
  """Verb → the names of its flags, as its help lists them."""
  found = {}

  def of(verb, capture):
    if verb not in found:
      with pytest.raises(SystemExit):
        module = importlib.import_module(f"skymath_jax.{cli.VERBS[verb][0]}")
        getattr(module, cli.VERBS[verb][1])([verb, "--help"])
      found[verb] = {m[1] for m in re.finditer(r"^  --(\w+)", capture.readouterr().out, re.MULTILINE)}
    return found[verb]

  return of


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.needs], ids=lambda b: b.name)
def test_what_cannot_be_run_here_is_checked_word_by_word(block, clone, flags_of, capsys):
  for words in block.commands():
    if words[:2] == ["skymath", "bench"]:  # its parts look at their flags themselves
      assert (ROOT / "benchmarks" / f"{words[2]}.py").exists(), words
    elif words[0] == "skymath" and words[1] != "--help":
      given = [word for word in words[2:] if not word.startswith("--config.")]
      known = flags_of(words[1], capsys)
      assert {word.removeprefix("--").partition("=")[0] for word in given} <= known, words
      flags.check_overrides(words[1:])
      for word in given:
        if word.startswith("--config="):
          path, _, hardware = word.partition("=")[2].partition(":")
          config_lib.resolve(config_lib.load(ROOT / path, *filter(None, [hardware])))
    elif words[0].startswith("tpu_scripts/"):
      settings = {"PROJECT": "p", "BUCKET": "gs://b", "TEACHER_MODEL": "gs://b/t"}
      run(f"{' '.join(words)} --dry-run", clone, **settings)
    elif words[0] == "make":
      subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif words[0] == "python":
      assert (ROOT / words[1]).exists(), words
    else:
      assert words[0] in {"curl", "printf", "cat", "cp", "mkdir", "pip", "git", "ray"}, words


def test_links_lead_somewhere():
  for page in PAGES:
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
      assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_named_files_exist():
  for page in PAGES:
    for name in re.findall(r"`((?:skymath_jax|tests|configs|tpu_scripts|docs|benchmarks)/[\w./]+)`", page.read_text()):
      if not name.endswith(("NAME.py", "prompt.txt")) and "/NAME" not in name:
        assert (ROOT / name.rstrip("/.")).exists(), f"{page.name}: {name}"


def test_the_messages_of_troubleshooting_are_those_of_the_code():
  sources = "\n".join(
    p.read_text() for p in [*ROOT.glob("skymath_jax/**/*.py"), *ROOT.glob("tpu_scripts/*")] if p.is_file()
  )
  rows = [line for line in (ROOT / "docs/troubleshooting.md").read_text().splitlines() if line.startswith("| `")]
  assert len(rows) > 30
  for row in rows:
    for part in re.findall(r"`([^`]+)`", row.split(" | ")[0]):
      for fragment in part.split("…"):
        assert fragment.strip(" ?") in sources, f"no message says {fragment!r}"


def test_the_estimates_in_the_recipe_are_those_that_the_script_prints():
  spec = importlib.util.spec_from_file_location("estimates", ROOT / "docs" / "estimates.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  page, settings = (ROOT / "docs/recipe.md").read_text(), (ROOT / "tpu_scripts/settings.sh").read_text()
  for row in module.rows():
    assert row in page
  for name, _, usd in module.SLICES:
    assert usd is None or f"USD_{name.split('-')[0]}:={usd:.2f}" in settings


def test_the_picture_is_drawn_from_a_summary_alone():
  spec = importlib.util.spec_from_file_location("picture", ROOT / "docs" / "picture.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  levels = {"1": 0.5, "2": 0.25}
  found = {"all": 0.4, "n": 8, "by_level": levels, "n_by_level": {"1": 4, "2": 4}}
  summary = {"accuracy": dict.fromkeys(("base", "stage1", "stage2"), found), "instances": {"kept": 1234}}
  text = module.picture(summary)
  drawn = ElementTree.fromstring(text)
  assert drawn.tag.endswith("svg") and "1,234 synthesized instances" in text
  assert text.count('class="whisker') == 6 and "level 2" in text
