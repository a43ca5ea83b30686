"""What importing the serving room leaves behind in a fresh process; the engine under JetStream's own orchestrator."""

import subprocess
import sys


def run(code: str, timeout: float = 300) -> str:
  """Standard output of `code` in a new interpreter; its standard error is shown if it fails."""
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout)
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def test_jetstream_is_not_imported_by_the_package_and_leaves_no_trace():
  run("""
import logging, sys
import skymath_jax.server, skymath_jax.engine.generator
assert not any(m.split(".")[0] == "jetstream" for m in sys.modules)
root = logging.getLogger()
before = root.level, list(root.handlers)
import jax
had = hasattr(jax, "tree_map")
from skymath_jax.server.jetstream import DecoderEngine
from skymath_jax.server.serve import serve
from jetstream.engine import engine_api
from jetstream.core import orchestrator
from skymath_jax.serving import engine as contract
assert issubclass(DecoderEngine, engine_api.Engine) and contract.DecoderEngine is DecoderEngine
assert (root.level, list(root.handlers)) == before, root.handlers
assert not [m for m in sys.modules if m.split(".")[0] in ("tensorflow", "seqio", "torch")]
assert hasattr(jax, "tree_map") == had
import jax.numpy as jnp
array = jnp.ones(3)
orchestrator.delete_pytree({"a": [array]})
assert array.is_deleted()
""")


def test_the_engine_serves_under_the_stock_orchestrator():
  out = run("""
import asyncio
import numpy as np
from skymath_jax.testing.tokenizers import ByteTokenizer
from tests.support.serving import MAX_LENGTH, make_decoder, reference_tokens
from skymath_jax.generation import Sampling
from skymath_jax.server.jetstream import DecoderEngine
from skymath_jax.server.driver import orchestrator
from jetstream.core.proto import jetstream_pb2

decoder = make_decoder(0)
tokenizer = ByteTokenizer(eos_id=None)
engine = DecoderEngine(decoder, tokenizer, slots=4, max_length=MAX_LENGTH, steps_per_call=4)
params = engine.load_params()
driver = orchestrator.Driver([engine], [engine], [params], [params], interleaved_mode=True, jax_padding=False)
service = orchestrator.LLMOrchestrator(driver)

async def ask(text):
  content = jetstream_pb2.DecodeRequest.TokenContent(token_ids=tokenizer.encode(text))
  new = []
  # the history path keeps the stock code from adding bos
  async for part in service.Decode(jetstream_pb2.DecodeRequest(max_tokens=60, token_content=content)):
    new += part.stream_content.samples[0].token_ids
  return new

async def main():
  texts = ["hello", "a", "xyz"]
  for text, new in zip(texts, await asyncio.gather(*map(ask, texts))):
    prompt = tokenizer.encode(text, bos=True)
    expected = reference_tokens(decoder, prompt, Sampling(max_tokens=60), None)
    assert new == expected, (text, new, expected)

asyncio.run(main())
driver.stop()
print("served")
""")
  assert out.endswith("served\n")


def test_the_last_slot_can_drain_again_and_again():
  """Upstream's generate and detokenize threads race here, and an assertion then kills the process with SIGKILL."""
  out = run("""
import sys, threading
sys.setswitchinterval(1e-5)
from skymath_jax.server.driver import Driver
from skymath_jax.engine.batching import Job
from skymath_jax.engine.types import Prompt
from skymath_jax.testing.null_engine import NullEngine, NullSlots, answer
from skymath_jax.testing.tokenizers import CodePointTokenizer

class Waited(Job):
  def on_finish(self):
    self.event.set()
    if self.prompt.tokens[0] < 9:
      raise RuntimeError("a listener's failure must not end the thread that serves all")

driver = Driver(NullEngine(), NullSlots(2, steps_per_call=4), CodePointTokenizer(), queue_size=8)
for drain in range(600):
  jobs = [Waited(prompt=Prompt(tokens=(drain,), max_tokens=1 + (drain + i) % 9)) for i in range(1 + drain % 3)]
  for job in jobs:
    job.event = threading.Event()
    driver.submit(job)
  for job in jobs:
    assert job.event.wait(30), (drain, driver.counters.read())
    assert job.tokens == answer(job.prompt.tokens, job.prompt.max_tokens)
driver.stop()
print(driver.counters.read()["completed"])
""")
  assert out.strip() == str(sum(1 + drain % 3 for drain in range(600)))
