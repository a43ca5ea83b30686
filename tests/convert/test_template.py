"""A model that is trained in a template answers in it wherever it goes: here, exported, in a pipeline."""

import json

import pytest
from flax import nnx

from skymath_jax import chat, tokenizer, training
from skymath_jax.chat import frames
from skymath_jax.config import Stage, Training
from skymath_jax.convert.exporting import export_checkpoint
from skymath_jax.engine.generator import LocalGenerator
from skymath_jax.engine.types import EngineSettings
from skymath_jax.generation import Request, Sampling
from skymath_jax.models import Decoder, DecoderConfig, load_any
from tests.support.tokenizer_families import FOLDERS

CHATML = """{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ eos_token }}
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
NAMES = ("Tom", "Ann", "Bob", "Eve")
PAIRS = {f"Who is {name}?": f"{name} is friend {number}." for number, name in enumerate(NAMES)}


class Rows(list):
  fingerprint = "pairs"


@pytest.mark.parametrize("name", ["chat", "sft/alpaca"])
def test_an_export_answers_as_it_was_trained_and_ends_by_itself(name, tmp_path, capsys):
  transformers = pytest.importorskip("transformers")
  pytest.importorskip("torch")
  FOLDERS["smollm"](tmp_path / "words")
  (tmp_path / "words/chat_template.jinja").write_text(CHATML)
  words = frames.dressed(tokenizer.load(tmp_path / "words"), name)
  sizes = {"embed": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, "mlp": 128}
  config = DecoderConfig(vocab_size=words.vocab_size, max_positions=128, **sizes)
  rows = Rows({"query": query, "response": response} for query, response in PAIRS.items())
  settings = Training(template=name, max_length=128, rows=4, checkpoint_every=1000)
  stage = Stage(epochs=80, learning_rate=5e-3)
  training.train(Decoder(config, rngs=nnx.Rngs(0)), words, rows, tmp_path / "trained", settings, stage)
  export_checkpoint(tmp_path / "trained", tmp_path / "out", dtype="float32", logits=False)

  decoder, ours = load_any(tmp_path / "out")
  encode = chat.question_encoder(ours, "template")
  serving = EngineSettings(slots=4, max_length=128, steps_per_call=8)
  generator = LocalGenerator(decoder, ours, "m", serving, encode=encode)
  asked = [Request(id=query, prompt=query, sampling=Sampling(max_tokens=40)) for query in PAIRS]
  answers = {answer.id: answer for answer in generator.generate_all(asked)}
  assert {query: answer.text for query, answer in answers.items()} == PAIRS
  assert {answer.finish_reason for answer in answers.values()} == {"stop"}
  pipe = transformers.pipeline("text-generation", str(tmp_path / "out"), device="cpu")
  for query, response in PAIRS.items():
    told = pipe([{"role": "user", "content": query}], max_new_tokens=40, do_sample=False)
    assert told[0]["generated_text"][-1] == {"role": "assistant", "content": response}
  ends = json.loads((tmp_path / "out/generation_config.json").read_text())["eos_token_id"]
  assert ours.eos_id in (ends if isinstance(ends, list) else [ends])
