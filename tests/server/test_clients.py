"""Other people's clients, unmodified, against our server."""

import importlib.util
import json
import sys
from pathlib import Path

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
