"""The report as a file: whole, self-contained, true to the summary, and safe whatever a model wrote."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from skymath_jax import files, records, report

SECTIONS = tuple("accuracy levels subjects funnel instances quality training samples answers pace provenance".split())
VOID = {"meta", "link", "br", "wbr", "img", "input", "hr"}
FILES = (
  "summary.json", "config.json", "seeds/summary.json", "seeds/problems.jsonl",
  *(f"synthesis/stage{n}/{name}" for n in (1, 2) for name in ("summary.json", "instances.jsonl")),
  "synthesis/stage1/coreset.jsonl",
  *(f"sft/stage{n}/{name}" for n in (1, 2) for name in ("summary.json", "kept.jsonl")),
  *(f"checkpoints/stage{n}/metrics.jsonl" for n in (1, 2)),
  *(f"evaluation/{m}/{name}" for m in ("base", "stage1", "stage2") for name in ("summary.json", "predictions.jsonl")),
)  # fmt: skip


class Page(HTMLParser):
  """Asserts that tags balance while it collects elements, text, and the text of each section."""

  def __init__(self, source):
    super().__init__()
    self.source, self.open, self.elements, self.text, self.sections = source, [], [], "", {}
    self.feed(source)
    self.close()
    assert not self.open, self.open

  def handle_starttag(self, tag, attributes):
    self.elements.append((tag, dict(attributes)))
    if tag not in VOID:
      self.open.append((tag, dict(attributes)))

  def handle_endtag(self, tag):
    assert self.open, f"</{tag}> closes nothing"
    assert self.open.pop()[0] == tag, f"</{tag}> closes something else"

  def handle_data(self, data):
    if self.open and self.open[-1][0] == "style":
      return
    self.text += data
    for tag, attributes in self.open:
      if tag == "section":
        self.sections[attributes["id"]] = self.sections.get(attributes["id"], "") + data


def page_of(workdir):
  return Page(report.write(workdir).read_text())


def plain(text):
  """Spaces of all kinds as one space."""
  return " ".join(text.split())


@pytest.fixture(scope="module")
def page(finished):
  return page_of(finished)


def test_all_sections_are_there_in_order_and_linked(page):
  assert [a["id"] for tag, a in page.elements if tag == "section"] == list(SECTIONS)
  assert {a["href"] for tag, a in page.elements if tag == "a"} == {f"#{name}" for name in SECTIONS}
  assert "Not there" not in page.text


def test_nothing_is_loaded_and_nothing_runs(page):
  assert not [tag for tag, _ in page.elements if tag in {"script", "iframe", "object", "img", "form", "base"}]
  for tag, attributes in page.elements:
    for name, value in attributes.items():
      assert not name.startswith("on"), (tag, name)
      if name in {"src", "href", "xlink:href", "action", "data", "srcset", "poster"}:
        assert value.startswith(("#", "data:,")), (tag, name, value)
  policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
  assert policy.startswith("default-src 'none'")
  assert "script-src" not in policy
  style = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL).group(1)
  assert "url(" not in style
  assert "@import" not in style


def test_page_adapts_to_dark_screens_phones_and_paper(page):
  for query in ("screen and (prefers-color-scheme: dark)", "screen and (max-width", "print"):
    assert f"@media {query}" in page.source
  assert any(a.get("name") == "viewport" for tag, a in page.elements if tag == "meta")


def test_every_drawing_has_a_name(page):
  drawings = re.findall(r"<svg [^>]*>(<title>[^<]+</title>)?", page.source)
  assert len(drawings) > 20
  assert all(drawings)


def test_numbers_are_those_of_the_summary(page, finished):
  summary = files.read_json(finished / "summary.json")
  text = {name: plain(found) for name, found in page.sections.items()}
  for facts in summary["accuracy"].values():
    low, high = facts["ci95"]
    assert f"{100 * facts['all']:.1f} %" in text["accuracy"]
    assert f"{100 * low:.1f}–{100 * high:.1f} %, n = {facts['n']}" in text["accuracy"]
    for share in facts["by_level"].values():
      assert f"{100 * share:.1f} %" in text["levels"]
    for name, share in facts["by_subject"].items():
      assert f"{100 * share:.1f} %" in text["subjects"]
      assert name in text["subjects"]
  assert f"{summary['instances']['kept']:,} instances were kept" in text["funnel"]
  assert f"{sum(summary['instances']['dropped'].values()):,} responses" in text["funnel"]
  for reason, count in summary["instances"]["dropped"].items():
    assert f"{reason} {count}" in text["funnel"]  # in the drawing's name
  for method, count in summary["instances"]["by_method"].items():
    assert f"{method} {count}" in text["instances"]
  for method, facts in summary["oracle"].items():
    valid, right = (f"{100 * facts[key]:.1f} %" for key in ("valid_question", "right_answer"))
    assert re.search(rf"{re.escape(method)} ?n = {facts['n']} {valid}.*?{right}", text["quality"])
  for name, seconds in summary["seconds"].items():
    assert f"{name} {seconds:.1f}" in text["pace"]
  assert f"{sum(summary['seconds'].values()):.1f} in all" in text["pace"]
  assert summary["config_hash"] in text["provenance"]
  assert "micro_teacher@0123456789abcdef" in text["provenance"]


def test_funnel_shows_each_step_and_its_loss(page, finished):
  text = plain(page.sections["funnel"])
  for stage, first in (
    (1, {"seed problems": 400, "synthetic problems selected for pass 2": 58}),
    (2, {"hard seed problems": 160}),
  ):
    made = files.read_json(finished / f"synthesis/stage{stage}/summary.json")
    counts = {**first, "teacher responses": made["stored"], "instances parsed": made["instances"]}
    assert f"Funnel of stage {stage}: " + ", ".join(f"{name} {count}" for name, count in counts.items()) in text
  for stage in (1, 2):
    for step in files.read_json(finished / f"sft/stage{stage}/summary.json")["steps"]:
      assert f"after {step['name'].replace('_', ' ')} {step['out']}" in text
      assert f"{step['out']} (−{step['in'] - step['out']})" in text


def test_one_sample_a_method_reaches_its_seed(page, finished):
  methods = files.read_json(finished / "summary.json")["instances"]["by_method"]
  assert page.sections["samples"].count("Seed problem") == len(methods)
  assert "Parent not found" not in page.text


def test_planted_markup_is_shown_and_not_obeyed(copy, attack):
  for path in FILES:
    text = (copy / path).read_text()
    for word in (
      "First we count",
      "Mia",
      "garden",
      "quickstart",
      "micro_teacher",
      "near_duplicate",
      "xwin",
      "micro_gsm:test",
    ):
      text = text.replace(word, json.dumps(word + attack)[1:-1])
    (copy / path).write_text(text)
  page = page_of(copy)
  assert not [tag for tag, _ in page.elements if tag in {"script", "img"}]
  assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
  assert page.text.count("<script>alert('planted')") > 50
  assert {"quickstart" + attack, "garden" + attack} <= set(
    re.findall(r"(?:quickstart|garden)<script>.*?onerror=alert\(1\)>", page.text)
  )


def test_characters_that_break_pages_are_replaced(copy):
  rows = [row for _, row in records.read_lines(copy / "sft/stage1/kept.jsonl")]
  for row in rows:
    row["response"] = "null \0 bell \a turn \u202e lone \ud800 end" + "x" * 9000
  (copy / "sft/stage1/kept.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  page = page_of(copy)
  assert "null \ufffd bell \ufffd turn \ufffd lone \ufffd end" in page.text
  assert "more characters)" in page.text
  assert "x" * 5000 not in page.text


def test_lone_surrogate_in_a_drawing_does_not_stop_the_report(copy):
  summary = (copy / "summary.json").read_text().replace("no_answer_line", "\\ud800").replace("seeds", "\\udfff")
  (copy / "summary.json").write_text(summary)
  page = page_of(copy)
  assert "? 63" in plain(page.sections["funnel"])
  assert "? 0.4" in plain(page.sections["pace"])


def test_empty_workdir_says_what_is_missing(tmp_path):
  page = page_of(tmp_path)
  assert [name for name in SECTIONS if name not in page.sections] == []
  for name in SECTIONS[:-1]:
    assert "Not there" in page.sections[name], name
  assert "summary.json: no such file" in page.sections["provenance"]


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("torn", [False, True], ids=["missing", "torn"])
def test_any_file_may_be_missing_or_torn(copy, path, torn):
  content = (copy / path).read_bytes()
  (copy / path).unlink()
  if torn:
    (copy / path).write_bytes(content[: len(content) // 3])
  assert set(page_of(copy).sections) == set(SECTIONS)


@pytest.mark.parametrize("content", [b"[3]\n", b"{}\n", b"\xff\xfe\n", b"", b"null"], ids=repr)
def test_all_files_may_be_damaged(copy, content):
  for path in FILES:
    (copy / path).write_bytes(content)
  assert set(page_of(copy).sections) == set(SECTIONS)


@pytest.mark.parametrize("path", [p for p in FILES if p.endswith("summary.json")])
def test_any_value_may_be_of_another_type(copy, path):
  def swapped(value):
    if isinstance(value, dict):
      return {key: swapped(inner) for key, inner in value.items()}
    return {int: "many", float: None, str: 7, list: {}}.get(type(value), "?")

  files.write_json(copy / path, swapped(files.read_json(copy / path)))
  assert set(page_of(copy).sections) == set(SECTIONS)


def test_metrics_up_to_a_torn_line_are_used_and_gaps_counted(copy):
  path = copy / "checkpoints/stage1/metrics.jsonl"
  lines = path.read_text().splitlines()[:50]
  path.write_text("\n".join([*lines, '{"step": 51, "loss": NaN}', '{"step": 52, "lo']))
  page = page_of(copy)
  assert "50 steps" in page.sections["training"]
  assert "1 steps without a finite loss" in plain(page.sections["training"])
  assert "metrics.jsonl:52" in page.sections["provenance"]


def test_stale_summary_is_pointed_out(copy, page):
  assert "stale" not in page.text
  summary = files.read_json(copy / "summary.json")
  summary["accuracy"]["stage1"]["all"] = 0.99
  files.write_json(copy / "summary.json", summary)
  assert "the summary says 99.0 %, its 500 predictions 51.6 %; one is stale." in plain(
    page_of(copy).sections["accuracy"]
  )


def test_evaluation_is_enough_for_accuracies(copy):
  """Before the run's summary exists, figures come from each evaluation's, and failing that from the predictions."""
  expected = files.read_json(copy / "summary.json")["accuracy"]["stage2"]
  (copy / "summary.json").unlink()
  (copy / "evaluation/stage2/summary.json").unlink()
  page = page_of(copy)
  for share in (expected["all"], *expected["by_level"].values(), *expected["by_subject"].values()):
    assert f"{100 * share:.1f} %" in plain(page.text)


def test_further_benchmarks_are_listed(copy):
  facts = {"accuracy": {"all": 0.4321, "n": 81}, "name": "gsm8k:test", "warnings": ["the prompt is another one"]}
  files.write_json(copy / "evaluation/stage2/gsm8k_test/summary.json", facts)
  page = page_of(copy)
  assert "gsm8k:test" in page.sections["accuracy"]
  assert "43.2 %" in plain(page.sections["accuracy"])


def test_equal_workdirs_give_equal_reports(finished):
  assert report.write(finished).read_bytes() == report.write(finished).read_bytes()


def browse(path, folder):
  """The document as headless Chromium builds it, and the messages of its console."""
  flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
  flags += " --disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=2000 --dump-dom"
  command = [shutil.which("chromium"), *flags.split(), f"--user-data-dir={folder}", f"file://{path}"]
  done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
  return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here")
def test_browser_has_nothing_to_complain_about(finished, tmp_path):
  path = report.write(finished)
  document, complaints = browse(path, tmp_path / "profile")
  assert complaints == []
  assert document.count("<section id=") == len(SECTIONS)
  broken = tmp_path / "broken.html"  # the same check on a page that does complain
  broken.write_text(path.read_text().replace("</body>", "<script>1</script></body>"))
  assert browse(broken, tmp_path / "profile")[1]


def test_steps_that_dropped_nothing_are_named_and_get_no_bar(copy):
  path = copy / "sft/stage2/summary.json"
  steps = files.read_json(path)["steps"]
  steps[1] = {**steps[1], "in": steps[1]["out"], "dropped": {}}
  files.write_json(path, {"steps": steps})
  section = plain(page_of(copy).sections["funnel"])
  assert "Nothing was dropped by decontamination." in section
  assert "after decontamination" not in section.split("Stage 2", 1)[1]
