"""How a model is asked, and models behind an endpoint: chat template or frame, suites, resume, money."""

import asyncio
import json
import re
import types

import pytest

from skymath_jax import config as config_lib
from skymath_jax.cli import main as cli
from skymath_jax.errors import UserError
from skymath_jax.models import training_prompt
from skymath_jax.models.training_prompt import TrainingPrompt
from skymath_jax.recipe import evaluate
from tests.support import endpoint

CHATTY = types.SimpleNamespace(chat_template="{{ messages[0].content }}")
BARE = types.SimpleNamespace(chat_template=None)


def how(tokenizer, benchmark="mine.jsonl", *, trained="", **settings):
  config = config_lib.changed(config_lib.Experiment(), {f"evaluation.{key}": v for key, v in settings.items()})
  text = evaluate.template_of(config, TrainingPrompt(trained, "") if trained else None)
  identity = evaluate.chat_identity(text, tokenizer)
  return evaluate.options_of(config, text, identity, benchmark, known={})["template"].name


def test_a_model_of_others_is_asked_in_its_own_template_and_one_of_ours_as_it_was_trained():
  assert how(CHATTY, template="chat") == "chat:ask/answer"
  assert how(CHATTY, template="chat", mode="symbolic") == "chat:ask/boxed"
  assert how(CHATTY, "mgsm:zh", template="chat", mode="symbolic") == "chat:ask/boxed_zh"
  assert how(CHATTY, template="chat:raw") == "chat:raw"
  assert how(BARE, template="raw") == "raw"
  assert how(CHATTY, template="") == "sft/alpaca"
  for trained, asked in (
    ("sft/alpaca", "sft/alpaca"),
    ("raw+thoughts", "raw"),
    ("chat", "chat:raw"),
    ("chat+thoughts", "chat:raw"),
    ("chat:ask/boxed", "chat:ask/boxed"),
    ("~/mine.jinja", "chat:raw"),
    ("gone.jinja+thoughts", "chat:raw"),
  ):
    assert how(CHATTY, trained=trained) == how(CHATTY, trained=trained, template="raw") == asked


@pytest.mark.parametrize(
  "text", ["[]", "{", '{"template": "raw"}', '{"template": 1, "hash": ""}', '{"template": null, "hash": null}']
)
def test_what_a_strangers_folder_says_of_its_training_is_not_believed_blindly(tmp_path, text):
  (tmp_path / training_prompt.FILE).write_text(text)
  with pytest.raises(UserError, match=training_prompt.FILE):
    training_prompt.read(tmp_path)


@pytest.mark.parametrize("name", ["../../README", "/etc/passwd", "sft/../raw", "chat:../secret", ""])
def test_no_name_leads_out_of_the_folder_of_prompts(tmp_path, name):
  with pytest.raises(UserError, match="no prompt named"):
    how(CHATTY, trained=name or "chat: ")


def test_a_model_without_a_chat_template_is_told_of():
  with pytest.raises(UserError, match=r"config\.evaluation\.template.*no chat template"):
    how(BARE, template="chat")


def test_benchmarks_that_are_missing_are_all_named_before_anything_is_asked(tmp_path):
  there = tmp_path / "there.jsonl"
  there.write_text('{"question": "1 + 1?", "answer": "2"}\n')
  missing = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
  config = config_lib.Experiment()
  assert list(evaluate.at_hand(config, [str(there)])) == [str(there)]
  with pytest.raises(UserError, match=r"2 of 3 benchmarks are not at hand \(.*a\.jsonl, .*b\.jsonl\)"):
    evaluate.at_hand(config, [missing[0], str(there), missing[1]])


def adder(call):
  """Adds the two numbers of the question; every sixth sum is wrong."""
  a, b = map(int, re.findall(r"\d+", call.prompt)[:2])
  return endpoint.completion(
    f"\\boxed{{{a + b + (a % 6 == 5)}}}", usage={"prompt_tokens": 100, "completion_tokens": 50}
  )


def command(url, tmp_path, *more):
  rows = [{"question": f"What is {n} plus {n + 1}?", "answer": 2 * n + 1} for n in range(12)]
  (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  words = ["evaluate", f"--endpoint={url}", "--model=org/adder", f"--benchmarks={tmp_path / 'sums.jsonl'}"]
  return [*words, f"--workdir={tmp_path / 'w'}", *more]


def called(tmp_path, *runs):
  """(exit codes, calls after each run) of command lines against one endpoint."""

  async def run():
    codes, counts = [], []
    async with endpoint.serving(adder) as (url, calls):
      for more in runs:
        codes.append(await asyncio.to_thread(cli.call, command(url, tmp_path, *more)))
        counts.append(len(calls))
    return codes, counts, calls

  return asyncio.run(run())


def test_an_endpoint_is_evaluated_without_a_config_and_resumed(tmp_path):
  greedy, hot = (), ("--config.evaluation.temperature=0.7", "--config.evaluation.samples=2")
  codes, counts, calls = called(tmp_path, greedy, greedy, hot, greedy)
  assert codes == [0] * 4
  assert counts == [12, 12, 36, 36]  # nothing is paid twice, not even after other settings
  assert calls[0].path == "/v1/chat/completions" and "\\boxed{}" in calls[0].prompt
  summary = json.loads((tmp_path / "w" / "evaluation" / "org_adder" / "sums" / "summary.json").read_text())
  assert summary["accuracy"]["all"] == 10 / 12 and summary["model"] == "org/adder" and summary["mode"] == "symbolic"
  assert summary["prompt"]["name"] == "chat:ask/boxed" and summary["prompt"]["chat"] == "endpoint"


def test_the_cost_ceiling_of_a_workdir_counts_earlier_runs(tmp_path, capsys):
  prices = ("--config.teacher.prices=(1000.0, 1000.0)",)  # 0.15 a response
  limited = (*prices, "--config.evaluation.limit=4", "--config.teacher.cost_ceiling=9")
  codes, counts, _ = called(
    tmp_path, (*limited, "--config.evaluation.max_tokens=100"), (*prices, "--config.teacher.cost_ceiling=0.61",
    "--config.evaluation.max_tokens=100")
  )  # fmt: skip
  assert codes == [0, 1] and counts == [4, 4]
  assert "cost" in capsys.readouterr().err


def test_a_bare_frame_goes_to_completions(tmp_path):
  codes, _, calls = called(tmp_path, ("--config.evaluation.template=raw", "--config.evaluation.limit=1"))
  assert codes == [0] and calls[0].path == "/v1/completions"
  assert calls[0].body["prompt"] == "What is 0 plus 1?"


def test_what_is_missing_on_the_command_line_is_said(tmp_path, capsys):
  assert cli.call(["evaluate", "--endpoint=http://127.0.0.1:9/v1", f"--workdir={tmp_path}"]) == 2
  assert cli.call(["evaluate", "--model=asset:micro_base", f"--workdir={tmp_path}"]) == 2
  assert "--benchmarks is missing" in capsys.readouterr().err
