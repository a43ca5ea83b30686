"""Other people's clients, unmodified, against our server."""

import importlib.util
import json
import sys
from pathlib import Path

import jax
import numpy as np
import openai
import pytest

from skymath_jax.generation import Request, Sampling
from tests.support.serving import http, local_generator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(server):
  with openai.OpenAI(base_url=f"http://127.0.0.1:{server.http_port}/v1", api_key="none", max_retries=0) as made:
    yield made


@pytest.fixture(scope="module")
def text(decoder, tokenizer):
  """The response to `hello`, straight from the engine."""
  local = local_generator(decoder, tokenizer)
  sampling = Sampling(max_tokens=11, temperature=0.9, seed=3)
  return local.generate_all([Request(id="1", prompt="hello", sampling=sampling)])[0].text


ASKED = {"model": "tiny@0", "max_tokens": 11, "temperature": 0.9, "seed": 3}


def test_openai_completions_and_models(client, text):
  assert [model.id for model in client.models.list()] == ["tiny@0"]
  answer = client.completions.create(prompt="hello", n=2, **ASKED)
  assert answer.choices[0].text == text != answer.choices[1].text
  assert answer.usage.completion_tokens == 22 and answer.usage.prompt_tokens == 12


def test_openai_chat_whole_and_streamed(client, text):
  messages = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
  answer = client.chat.completions.create(messages=messages, **ASKED)
  assert answer.choices[0].message.content == text and answer.choices[0].finish_reason == "length"
  stream = client.chat.completions.create(
    messages=messages, stream=True, stream_options={"include_usage": True}, **ASKED
  )
  chunks = list(stream)
  assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
  assert len(chunks) > 3 and chunks[-1].usage.completion_tokens == 11


def test_openai_errors_have_their_types(client, server):
  with pytest.raises(openai.BadRequestError, match="max_tokens"):
    client.completions.create(prompt="x", **ASKED | {"max_tokens": 10**6})
  with pytest.raises(openai.NotFoundError):
    client.embeddings.create(model="m", input="x")
  assert json.loads(http(server, "/v1/models")[1])["data"]


@pytest.mark.slow
def test_jetstreams_own_benchmark_client_runs_unmodified():
  spec = importlib.util.spec_from_file_location("jetstream_client", ROOT / "benchmarks" / "jetstream_client.py")
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  completed, rate = module.run(["--requests=40"])
  assert completed["value"] == 40 and rate["value"] > 0


def test_a_model_is_retrieved_by_its_name(client):
  assert client.models.retrieve("tiny@0").id == "tiny@0"
  with pytest.raises(openai.NotFoundError, match="only tiny@0"):
    client.models.retrieve("gpt-4")


def test_the_probabilities_of_an_echo_are_those_of_the_model(client, decoder, tokenizer):
  """As lm-evaluation-harness asks for multiple choice: the tokens of the prompt and one more."""
  prompt = tokenizer.encode("two and two", bos=True)
  answer = client.completions.create(
    model="tiny@0", prompt=[prompt] * 2, max_tokens=1, temperature=0, logprobs=1, echo=True
  )
  scored = jax.nn.log_softmax(decoder(np.array([prompt]))[0])
  assert [choice.index for choice in answer.choices] == [0, 1]
  for choice in answer.choices:
    found = choice.logprobs
    assert choice.text.startswith("two and two")
    assert found.token_logprobs[0] is None and found.top_logprobs[0] is None
    assert len(found.token_logprobs) == len(found.tokens) == len(found.text_offset) == len(prompt) + 1
    expected = [float(scored[place, token]) for place, token in enumerate(prompt[1:])]
    assert found.token_logprobs[1:-1] == pytest.approx(expected, abs=1e-4)
    assert [max(top.values()) for top in found.top_logprobs[1:]] == pytest.approx(scored.max(-1).tolist(), abs=1e-4)
  only = client.completions.create(model="tiny@0", prompt=prompt, max_tokens=0, temperature=0, logprobs=0, echo=True)
  assert only.choices[0].text == "two and two" and len(only.choices[0].logprobs.tokens) == len(prompt)


def test_the_probabilities_of_a_response_are_told(client, text):
  answer = client.completions.create(prompt="hello", logprobs=2, **ASKED).choices[0]
  assert answer.text == text and len(answer.logprobs.tokens) == 11
  assert all(
    value <= 0 and len(top) <= 2
    for value, top in zip(answer.logprobs.token_logprobs, answer.logprobs.top_logprobs, strict=True)
  )
  messages = [{"role": "user", "content": "hello"}]
  chat = client.chat.completions.create(messages=messages, logprobs=True, top_logprobs=3, **ASKED).choices[0]
  assert [e.logprob for e in chat.logprobs.content] == pytest.approx(answer.logprobs.token_logprobs, abs=1e-5)
  assert all(len(entry.top_logprobs) == 3 for entry in chat.logprobs.content)


# what verl, NeMo-Skills and lm-evaluation-harness send beside the prompt, with what asks for nothing
OFF = {
  "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0, "typical_p": 1.0,
  "detokenize": True, "truncate_prompt_tokens": -1, "modalities": ["text"], "reasoning_effort": "none",
  "frequency_penalty": 0.0, "best_of": 1,
  "seed": -1, "ignore_eos": False, "logprobs": None, "skip_special_tokens": False, "length_penalty": 1.0,
  "spaces_between_special_tokens": False, "include_stop_str_in_output": False, "min_tokens": 0, "logit_bias": {},
  "add_special_tokens": True, "guided_json": None, "chat_template_kwargs": {}, "use_beam_search": False,
}  # fmt: skip


def test_values_that_ask_for_nothing_are_taken(client):
  asked = {"model": "tiny@0", "prompt": "hello", "max_tokens": 4, "temperature": 0}
  plain = client.completions.create(**asked)
  assert client.completions.create(**asked, extra_body=OFF).choices[0].text == plain.choices[0].text


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("repetition_penalty", 1.1), ("min_p", 0.1), ("ignore_eos", True), ("guided_json", {"type": "object"}),
    ("best_of", 3), ("logit_bias", {"5": 1}), ("presence_penalty", 0.5), ("min_tokens", 3),
    ("add_special_tokens", False), ("top_k", -2), ("include_stop_str_in_output", True), ("use_beam_search", True),
    ("seed", -2),
    ("logprobs", 99), ("suffix", "x"),
    ("tools", [{"type": "function"}]), ("prompt_logprobs", 1), ("chat_template_kwargs", {"enable_thinking": False}),
  ],
)  # fmt: skip
def test_what_would_change_the_answer_is_refused_by_name(client, field, value):
  asked = {"model": "tiny@0", "prompt": "hello", "max_tokens": 4, "temperature": 0}
  with pytest.raises(openai.BadRequestError, match=field):
    client.completions.create(**asked, extra_body={field: value})
