"""Evaluation with a scripted model: grading, order, kills, resumption, stale responses, warnings."""

import asyncio
import dataclasses
import json
import multiprocessing
import os
import random
import signal
import time

import pytest
import scipy.stats

from skymath_jax import evaluation, prompts, statistics
from skymath_jax.errors import UserError
from skymath_jax.evaluation import compare
from skymath_jax.evaluation.evaluate import evaluate_async
from skymath_jax.evaluation.template import template
from skymath_jax.generation.types import Request, Response, Sampling
from skymath_jax.records import Problem, stable_id


def problem(index: int) -> Problem:
  return Problem.create(
    "test",
    f"What is {index} + {index}?",
    answer=str(2 * index),
    level=1 + index % 3,
    subject="even" if index % 2 else "odd",
  )


PROBLEMS = [problem(index) for index in range(12)]
USUAL = {"template": "sft/alpaca", "mode": "strict", "sampling": Sampling(max_tokens=2048), "samples": 1}


def evaluate(model, problems, folder, **options):
  return evaluation.evaluate(model, problems, folder, **USUAL | options)


class Scripted:
  """Answers from the question; every fifth wrongly, every seventh is cut off; in an order of its own."""

  def __init__(self, model_id="scripted@1", seed=0, fail_after=None, delay=0.0):
    self.model_id, self.seed, self.fail_after, self.delay = model_id, seed, fail_after, delay
    self.asked: list[Request] = []

  def text(self, prompt: str) -> tuple[str, str]:
    index = int(prompt.split("What is ")[1].split(" ")[0])
    if index % 7 == 6:
      return "Let me think, one and", "length"
    answer = 2 * index + (index % 5 == 4)
    return f"We add.\nThe answer is {answer}", "stop"

  async def generate(self, requests):
    requests = list(requests)
    random.Random(self.seed).shuffle(requests)
    for count, request in enumerate(requests):
      if count == self.fail_after:
        raise ConnectionError("server gone")
      await asyncio.sleep(self.delay)
      self.asked.append(request)
      text, reason = self.text(request.prompt)
      yield Response(id=request.id, text=text, finish_reason=reason, prompt_tokens=20, completion_tokens=len(text))

  async def close(self):
    raise AssertionError("the generator belongs to the caller")


def rows(folder):
  return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_summary_counts_and_groups(tmp_path):
  model = Scripted()
  summary = evaluate(model, PROBLEMS, tmp_path, name="sums", provenance={"config_hash": "c"})
  wrong = {index for index in range(12) if index % 5 == 4 or index % 7 == 6}
  assert wrong == {4, 6, 9}
  assert summary["accuracy"]["all"] == 9 / 12 and summary["accuracy"]["n"] == 12
  assert summary["accuracy"]["ci95"] == list(statistics.wilson(9, 12))
  assert summary["accuracy"]["by_level"] == {"1": 2 / 4, "2": 3 / 4, "3": 1.0}
  assert summary["accuracy"]["by_subject"] == {"even": 5 / 6, "odd": 4 / 6}
  assert summary["accuracy"]["n_by_level"] == {"1": 4, "2": 4, "3": 4}
  assert (summary["no_answer"], summary["truncated"], summary["correct"]) == (1, 1, 9)
  assert summary["tokens"]["completion"] == sum(row["tokens"] for row in rows(tmp_path)) > 0
  assert summary["tokens_per_second"] > 0 and summary["model"] == "scripted@1"
  assert summary["prompt"] == {"name": "sft/alpaca", "hash": prompts.load("sft/alpaca").hash}
  assert summary["provenance"] == {"config_hash": "c"} and summary["warnings"] == []
  assert summary == json.loads((tmp_path / "summary.json").read_text())


def test_predictions_are_in_problem_order_with_all_fields(tmp_path):
  evaluate(Scripted(seed=5), PROBLEMS, tmp_path)
  found = rows(tmp_path)
  assert [row["id"] for row in found] == [p.id for p in PROBLEMS]
  assert [row["correct"] for row in found] == [index not in {4, 6, 9} for index in range(12)]
  third = found[2]
  assert third["query"] == "What is 2 + 2?" and third["gold"] == "4" and third["extracted"] == "4"
  assert third["level"] == 3 and third["subject"] == "odd" and third["finish_reason"] == "stop"
  assert third["response"] == "We add.\nThe answer is 4" and third["tokens"] == len(third["response"])
  assert found[6]["extracted"] is None and found[6]["finish_reason"] == "length"


def test_files_do_not_depend_on_the_order_of_responses(tmp_path):
  texts = []
  for seed in range(3):
    summary = evaluate(Scripted(seed=seed), PROBLEMS, tmp_path / str(seed))
    summary = {key: value for key, value in summary.items() if key not in {"seconds", "tokens_per_second"}}
    texts.append(((tmp_path / str(seed) / "predictions.jsonl").read_bytes(), summary))
  assert texts[0] == texts[1] == texts[2]


def test_prompt_and_greedy_default(tmp_path):
  model = Scripted()
  evaluate(model, PROBLEMS[:1], tmp_path)
  assert model.asked[0].prompt == prompts.load("sft/alpaca").render(query="What is 0 + 0?")
  assert model.asked[0].sampling == Sampling(temperature=0.0, max_tokens=2048)


def test_sampled_requests_have_their_own_reproducible_seeds(tmp_path):
  first, second = Scripted(seed=1), Scripted(seed=2)
  for index, model in enumerate((first, second)):
    evaluate(model, PROBLEMS, tmp_path / str(index), sampling=Sampling(temperature=0.7, seed=3))
  seeds = {request.id: request.sampling.seed for request in first.asked}
  assert seeds == {request.id: request.sampling.seed for request in second.asked}
  assert len(set(seeds.values())) == 12


def test_a_failed_run_keeps_what_came_and_the_next_asks_for_the_rest(tmp_path):
  with pytest.raises(ConnectionError):
    evaluate(Scripted(fail_after=5), PROBLEMS, tmp_path)
  assert len(rows(tmp_path)) == 5 and not (tmp_path / "summary.json").exists()
  again = Scripted(seed=9)
  summary = evaluate(again, PROBLEMS, tmp_path)
  assert len(again.asked) == 7 and summary["responses"] == {"asked": 7, "kept": 5}
  whole = evaluate(Scripted(), PROBLEMS, tmp_path / "whole")
  assert summary["accuracy"] == whole["accuracy"]
  assert rows(tmp_path) == rows(tmp_path / "whole")


def test_a_torn_last_line_is_asked_again(tmp_path):
  evaluate(Scripted(), PROBLEMS, tmp_path)
  whole = (tmp_path / "predictions.jsonl").read_bytes()
  for cut in (1, 40, 150):
    (tmp_path / "predictions.jsonl").write_bytes(whole[:-cut])
    again = Scripted()
    evaluate(again, PROBLEMS, tmp_path)
    assert len(again.asked) == (0 if cut == 1 else 1)
    assert (tmp_path / "predictions.jsonl").read_bytes() == whole


def test_a_bad_line_in_the_middle_is_an_error_that_names_it(tmp_path):
  evaluate(Scripted(), PROBLEMS, tmp_path)
  lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
  lines[3] = lines[3][:20]
  (tmp_path / "predictions.jsonl").write_text("\n".join(lines) + "\n")
  with pytest.raises(UserError, match=r"predictions\.jsonl:4"):
    evaluate(Scripted(), PROBLEMS, tmp_path)


def _slow_run(folder):
  evaluate(Scripted(delay=0.05), PROBLEMS, folder)


def test_kill_nine_then_resume(tmp_path):
  process = multiprocessing.get_context("fork").Process(target=_slow_run, args=(tmp_path,))
  process.start()
  path = tmp_path / "predictions.jsonl"
  deadline = time.time() + 20
  while time.time() < deadline and (not path.exists() or path.read_bytes().count(b"\n") < 3):
    time.sleep(0.01)
  os.kill(process.pid, signal.SIGKILL)
  process.join()
  kept = path.read_bytes().count(b"\n")
  assert 3 <= kept < 12
  again = Scripted()
  summary = evaluate(again, PROBLEMS, tmp_path)
  assert len(again.asked) == 12 - kept and summary["accuracy"]["all"] == 9 / 12


def test_a_complete_evaluation_asks_nothing_and_keeps_its_speed(tmp_path):
  first = evaluate(Scripted(), PROBLEMS, tmp_path)
  model = Scripted()
  second = evaluate(model, PROBLEMS, tmp_path)
  assert model.asked == []
  assert second["tokens_per_second"] == first["tokens_per_second"] and second["accuracy"] == first["accuracy"]


def test_another_mode_grades_again_without_asking(tmp_path):
  texts = [Problem.create("t", "What is 4 + 4?", answer="9.0"), Problem.create("t", "What is 3 + 3?", answer="12/2")]
  assert evaluate(Scripted(), texts, tmp_path)["accuracy"]["all"] == 1.0
  changed = [Problem.create("t", p.question, answer=a) for p, a in zip(texts, (r"\sqrt{81}", r"2\cdot 3"), strict=True)]
  model = Scripted()
  assert evaluate(model, changed, tmp_path, mode="strict")["accuracy"]["all"] == 0.0
  assert evaluate(model, changed, tmp_path, mode="symbolic")["accuracy"]["all"] == 1.0
  assert model.asked == []


@pytest.mark.parametrize("change", ["model", "template", "sampling"])
def test_responses_of_other_settings_do_not_count(tmp_path, change):
  evaluate(Scripted(), PROBLEMS, tmp_path)
  model = Scripted(model_id="scripted@2" if change == "model" else "scripted@1")
  template = "raw" if change == "template" else "sft/alpaca"
  sampling = Sampling(max_tokens=99 if change == "sampling" else 2048)
  summary = evaluate(model, PROBLEMS, tmp_path, template=template, sampling=sampling)
  assert len(model.asked) == 12 and summary["responses"]["kept"] == 0
  assert len(rows(tmp_path)) == 12


def test_more_problems_ask_only_for_the_new_ones(tmp_path):
  evaluate(Scripted(), PROBLEMS[:5], tmp_path)
  model = Scripted()
  assert evaluate(model, PROBLEMS, tmp_path)["accuracy"]["n"] == 12
  assert len(model.asked) == 7


def test_a_prompt_other_than_trainings_is_warned_about(tmp_path, capsys):
  trained = prompts.load("sft/alpaca").hash
  fine = evaluate(Scripted(), PROBLEMS, tmp_path, provenance={"template_hash": trained})
  assert fine["warnings"] == []
  warned = evaluate(Scripted(), PROBLEMS, tmp_path / "raw", template="raw", provenance={"template_hash": trained})
  assert len(warned["warnings"]) == 1 and trained in warned["warnings"][0]
  assert "warning" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["#### {}", r"So \boxed{{{}}}", "<answer>{}</answer>", "Final answer: {}"])
def test_answers_that_the_strict_grader_does_not_read_are_told_of(tmp_path, capsys, form):
  class Other(Scripted):
    def text(self, prompt):
      return form.format(2 * int(prompt.split("What is ")[1].split(" ")[0])), "stop"

  (warning,) = evaluate(Other(), PROBLEMS, tmp_path)["warnings"]
  assert "12 of 12 responses" in warning and "config.evaluation.mode=symbolic" in warning
  assert warning in capsys.readouterr().err
  again = Other()
  summary = evaluate(again, PROBLEMS, tmp_path, mode="symbolic")
  assert summary["accuracy"]["all"] == 1 and summary["warnings"] == [] and again.asked == []


def test_a_model_that_answers_nothing_is_not_told_to_be_read_otherwise(tmp_path):
  class Mute(Scripted):
    def text(self, prompt):
      return "I do not know.", "stop"

  assert evaluate(Mute(), PROBLEMS, tmp_path)["warnings"] == []


def test_lost_responses_are_an_error(tmp_path):
  class Lossy(Scripted):
    async def generate(self, requests):
      async for response in super().generate(requests):
        if response.id != PROBLEMS[3].id:
          yield response

  with pytest.raises(UserError, match="1 of 12 requests got no response"):
    evaluate(Lossy(), PROBLEMS, tmp_path)
  assert len(rows(tmp_path)) == 11


def test_two_evaluations_of_one_folder_exclude_each_other(tmp_path):
  class Nested(Scripted):
    async def generate(self, requests):
      with pytest.raises(UserError, match="in use"):
        await evaluate_async(Scripted(), PROBLEMS, tmp_path, **USUAL)
      async for response in super().generate(requests):
        yield response

  assert evaluate(Nested(), PROBLEMS, tmp_path)["accuracy"]["n"] == 12


def test_problems_are_checked_before_anything_is_asked(tmp_path):
  model = Scripted()
  for bad, match in (
    ([], "no problems"),
    ([Problem.create("t", "q")], "no answer"),
    ([PROBLEMS[0], PROBLEMS[0]], "share the id"),
  ):
    with pytest.raises(UserError, match=match):
      evaluate(model, bad, tmp_path)
  assert model.asked == []


class Sampled(Scripted):
  """Sample j of problem i is right when (i + j) is odd; wrong ones all say -1, or nothing at all for problem 0."""

  def text(self, prompt: str) -> tuple[str, str]:
    index = int(prompt.split("What is ")[1].split(" ")[0])
    seed = self.asked[-1].sampling.seed
    sample = next(j for j in range(4) if seed == _seed(PROBLEMS[index], j))
    if (index + sample) % 2:
      return f"The answer is {2 * index}", "stop"
    return ("I do not know", "length") if index == 0 else ("The answer is -1", "stop")


def _seed(asked: Problem, sample: int) -> int:
  return int(stable_id(0, asked.id, *([sample] if sample else []))[:7], 16)


def test_several_samples_average_vote_and_give_pass_at_k(tmp_path):
  hot = Sampling(temperature=0.7, max_tokens=50)
  summary = evaluate(Sampled(), PROBLEMS, tmp_path, sampling=hot, samples=4)
  assert summary["samples"] == 4 and len(rows(tmp_path)) == 48
  assert [(row["id"], row["sample"]) for row in rows(tmp_path)] == [(p.id, j) for p in PROBLEMS for j in range(4)]
  assert summary["accuracy"]["all"] == 0.5 and summary["accuracy"]["n"] == 12
  assert summary["accuracy"]["ci95"] == [0.5, 0.5]  # every problem has two right of four
  assert {k: found["value"] for k, found in summary["pass_at_k"].items()} == pytest.approx(
    {"1": 0.5, "2": 1 - 1 / 6, "4": 1.0}
  )
  # of one sample the vote is that sample: odd problems; of four, two right and two wrong: the one given first wins,
  # but for problem 0, whose wrong ones do not vote
  assert summary["maj_at_k"]["1"]["value"] == 6 / 12
  assert summary["maj_at_k"]["4"]["value"] == 7 / 12
  assert summary["truncated"] == summary["no_answer"] == 2


def test_more_samples_keep_those_that_are_there(tmp_path):
  hot = Sampling(temperature=0.7, max_tokens=50)
  evaluate(Sampled(), PROBLEMS, tmp_path, sampling=hot)
  model = Sampled()
  evaluate(model, PROBLEMS, tmp_path, sampling=hot, samples=4)
  assert len(model.asked) == 36
  whole = Sampled()
  evaluate(whole, PROBLEMS, tmp_path / "whole", sampling=hot, samples=4)
  assert rows(tmp_path) == rows(tmp_path / "whole")


def test_greedy_samples_are_refused(tmp_path):
  with pytest.raises(UserError, match="all the same"):
    evaluate(Scripted(), PROBLEMS, tmp_path, samples=2)


def test_groups_have_sizes_and_intervals(tmp_path):
  long = Problem.create("test", "What is 1 + 1?" + " Think of it." * 10, answer="2", subject="odd")
  accuracy = evaluate(Scripted(), [*PROBLEMS, long], tmp_path)["accuracy"]
  assert accuracy["n_by_length"] == {"under 100": 12, "100-199": 1}
  assert accuracy["by_length"]["100-199"] == 1.0
  assert accuracy["ci95_by_level"]["1"] == list(statistics.wilson(2, 4))
  assert accuracy["n_by_level"] == {"1": 4, "2": 4, "3": 4}  # the long one has no level


def test_comparison_of_two_evaluations(tmp_path):
  first, second = tmp_path / "first", tmp_path / "second"
  evaluate(Scripted(), PROBLEMS, first)
  right = [dataclasses.replace(p, answer=p.answer if i != 2 else "5") for i, p in enumerate(PROBLEMS[:10])]

  class Better(Scripted):
    def text(self, prompt):
      index = int(prompt.split("What is ")[1].split(" ")[0])
      return f"The answer is {2 * index}", "stop"

  evaluate(Better("better@1"), right, second)
  found = compare(first, second)
  assert (found["n"], found["only_in_first"], found["only_in_second"]) == (10, 2, 0)
  assert (found["gained"], found["lost"]) == (3, 1)  # 4, 6 and 9 come right, 2 is graded against another gold
  assert found["p"] == pytest.approx(scipy.stats.binomtest(1, 4, 0.5).pvalue)
  assert found["gained_ids"] == [PROBLEMS[i].id for i in (4, 6, 9)] and found["lost_ids"] == [PROBLEMS[2].id]
  assert found["difference"] == pytest.approx(0.2) and found["ci95"][0] < 0.2 < found["ci95"][1]
  assert (found["first"], found["second"]) == ("scripted@1", "better@1")
  evaluate(Scripted(), [Problem.create("other", "What is 1 + 1?", answer="2")], tmp_path / "other")
  with pytest.raises(UserError, match="share no problem"):
    compare(first, tmp_path / "other")
  with pytest.raises(UserError, match="no such file"):
    compare(first, tmp_path / "nothing")


def test_a_chat_template_is_named_and_part_of_what_a_stored_response_answers(tmp_path):
  how = template("chat:raw", chat="1234")
  summary = evaluate(Scripted(), PROBLEMS, tmp_path, template=how)
  assert summary["prompt"] == {"name": "chat:raw", "hash": prompts.load("raw").hash, "chat": "1234"}
  for other in ("raw", template("chat:raw", chat="5678")):  # the very same text goes to the model
    model = Scripted()
    evaluate(model, PROBLEMS, tmp_path, template=other)
    assert len(model.asked) == 12
  assert model.asked[0].prompt.startswith("What is ")


def test_chat_alone_asks_for_what_the_grader_reads():
  assert template("chat", chat="1").name == "chat:ask/answer"
  assert template("chat", chat="1", frame="ask/boxed").render("2 + 2?").endswith(r"into \boxed{}.")
  with pytest.raises(UserError, match="no prompt named 'nothing'"):
    template("chat:nothing")


def test_a_model_trained_in_a_frame_is_warned_about_when_it_is_asked_in_a_chat(tmp_path):
  trained = {"template_hash": prompts.load("sft/alpaca").hash}
  asked = evaluate(Scripted(), PROBLEMS, tmp_path, template=template("chat:sft/alpaca", chat="1"), provenance=trained)
  assert "chat:sft/alpaca" in asked["warnings"][0]


def test_thoughts_stand_apart_and_a_cut_one_is_no_answer(tmp_path):
  class Thinking(Scripted):
    def text(self, prompt):
      index = int(prompt.split("What is ")[1].split(" ")[0])
      if index == 3:  # the limit ended it before it answered
        return "<think>\nThe answer is 6", "length"
      return f"<think>\nThe answer is -1? No.\n</think>\nThe answer is {2 * index}", "stop"

  summary = evaluate(Thinking(), PROBLEMS, tmp_path)
  assert summary["accuracy"]["all"] == 11 / 12 and summary["no_answer"] == 1
  assert summary["thoughts"] == {"responses": 12, "cut": 1, "characters": round((11 * 21 + 15) / 12)}
  found = rows(tmp_path)
  assert found[0]["response"] == "The answer is 0" and found[0]["thought"] == "The answer is -1? No."
  assert [row["thought_cut"] for row in found] == [index == 3 for index in range(12)]
