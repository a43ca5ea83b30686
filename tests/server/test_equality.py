"""One answer whichever way it is asked for: gRPC, in process, transformers; one device or eight."""

import asyncio
import os
import subprocess
import sys

import pytest
import torch

from skymath_jax import tokenizer as tokenizer_lib
from skymath_jax.generation import Request, Sampling
from skymath_jax.generation.jetstream import JetStreamGenerator
from skymath_jax.models import hf
from tests.support import zoo
from tests.support.serving import by_id, local_generator, start_server

FAST = {"mistral-v0.1", "qwen3"}  # the model itself is compared in tests/models, family by family
FAMILIES = [
  name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in zoo.MODELS | zoo.LATER_MODELS
]
SETTINGS = {"slots": 3, "max_length": 96, "steps_per_call": 4, "prefill_chunk": 32}
TEXT = "### Question:\nTom has 12 apples and 345 pears.\n\n### Response: 12 + 345 = 357.\nThe answer"
PROMPTS = [  # ragged, one longer than a piece of prefill, more than there are slots
  *(
    "Tom",
    "Tom has 12 apples and 345 pears.",
    "### Question:\n12 + 345 =",
    "pears",
    "357 apples and 12",
    "The answer is",
  ),
  *(TEXT, "apples apples"),
]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
  return tokenizer_lib.train_sentencepiece(
    [TEXT] * 9, tmp_path_factory.mktemp("words"), vocab_size=320, fixed=["### Response:"]
  )


def theirs(family, folder):
  """A tiny random model of transformers with this vocabulary, saved to `folder`."""
  model = zoo.make(family, vocab_size=320)
  model.save_pretrained(folder)
  return model


def greedy_by_transformers(model, words, prompt, count):
  ids = torch.tensor([words.encode(prompt, bos=True)])
  with torch.no_grad():
    made = model.generate(
      ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=0
    )
  new = made[0, ids.shape[1] :].tolist()
  return next((new[:i] for i, token in enumerate(new) if token in words.end_ids), new)


def ask(server, words, requests):
  async def run():
    client = JetStreamGenerator([f"127.0.0.1:{server.port}"], words, "m", concurrency=64, first_pause=0.02)
    try:
      return await asyncio.gather(*map(client.complete, requests))
    finally:
      await client.close()

  return asyncio.run(run())


@pytest.mark.parametrize("family", FAMILIES)
def test_grpc_and_local_equal_transformers(family, words, tmp_path):
  model = theirs(family, tmp_path)
  words.save(tmp_path)
  decoder, tokenizer = hf.load(tmp_path)
  greedy = [Request(id=str(i), prompt=p, sampling=Sampling(max_tokens=5 + 3 * i)) for i, p in enumerate(PROMPTS)]
  sampled = [
    Request(id=str(i), prompt=p, sampling=Sampling(temperature=0.8, top_p=(1.0, 0.9)[i % 2], seed=i, max_tokens=20))
    for i, p in enumerate(PROMPTS)
  ]
  local = local_generator(decoder, tokenizer, **SETTINGS)
  ours = local.generate_all(greedy)
  for request, response in zip(greedy, ours, strict=True):
    expected = greedy_by_transformers(model, tokenizer, request.prompt, request.sampling.max_tokens)
    assert (response.text, response.completion_tokens) == (tokenizer.decode(expected), len(expected))
  server = start_server(decoder, tokenizer, **SETTINGS)
  try:
    assert by_id(ask(server, tokenizer, greedy)) == by_id(ours)
    drawn = local.generate_all(sampled)
    assert by_id(ask(server, tokenizer, sampled[::-1])) == by_id(drawn)
  finally:
    server.stop()
  assert len({r.text for r in drawn}) >= len(PROMPTS) - 2


MESHES = """
import dataclasses, sys
import jax
from flax import nnx
from skymath_jax import sharding
from skymath_jax.models import Decoder
from skymath_jax.testing.tokenizers import ByteTokenizer
from tests.support.serving import CONFIG, by_id, local_generator, requests
assert len(jax.devices()) == 8
experts = {"experts": 4, "experts_per_token": 2, "normalize_experts": True, "family": "mixtral"}
config = dataclasses.replace(CONFIG, vocab_size=264, **(experts if "--experts" in sys.argv else {}))
plain = Decoder(config, rngs=nnx.Rngs(0))
nnx.update(plain, jax.tree.map(lambda w: w * 2.5 if w.ndim > 1 else w, nnx.state(plain, nnx.Param)))
asked = requests(14)
WAYS = ({"prefill_chunk": 16}, {"weights": "int8", "kv": "int8"})[: None if "--all" in sys.argv else 1]
FORMS = ("auto", "splash")  # splash: the cache as on a TPU (rows this short are prefilled without the kernel)
def answers(decoder, **way):
  one = local_generator(decoder, ByteTokenizer(), slots=8, **way)
  return by_id(one.generate_all(asked)), one
expected = [answers(plain, **way)[0] for way in WAYS]
MESHES = ({"data": 2, "fsdp": 2, "tensor": 2}, {"tensor": 4, "data": 2}, {"fsdp": 8}, {"data": 8})
for sizes in MESHES[: None if "--all" in sys.argv else 1]:
  mesh = sharding.make_mesh(**{"data": 1, "fsdp": 1, "tensor": 1} | sizes)
  graph, state = nnx.split(plain)
  sharded = nnx.merge(graph, jax.device_put(state, sharding.shardings_of(state, mesh)))
  for form in FORMS:
    for way, one_device in zip(WAYS, expected):
      found, generator = answers(sharded.replace(attention=form), **way)
      assert found == one_device, (sizes, form, way)
      assert generator.engine.mesh is not None
print("equal", len({text for _, text, *_ in expected[0].values()}))
"""


@pytest.mark.timeout(1600)
@pytest.mark.parametrize(
  "extent", ["", *(pytest.param(more, marks=pytest.mark.slow) for more in ("--all", "--experts"))]
)
def test_eight_devices_give_what_one_gives(extent):
  flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [sys.executable, "-c", MESHES, extent], env=os.environ | flags, capture_output=True, text=True, timeout=1500
  )
  assert done.returncode == 0, done.stderr[-3000:]
  word, distinct = done.stdout.split()
  assert word == "equal" and int(distinct) > 8
