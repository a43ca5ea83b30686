"""One model of each family, with a tokenizer beside it, as a folder, in torch and here."""

import pytest

from skymath_jax import tokenizer
from skymath_jax.models import hf

TEXT = ["### Question:\nTom has 12 apples and 345 pears.\n\n### Response: 12 + 345 = 357.\nThe answer is 357"] * 9
NAMES = (
  "llama-2 llama-3 llama-3.1 llama-3.2 codellama llama-linear deepseekmath "
  "mistral-v0.1 mistral-v0.3 qwen2 qwen2.5 qwen3 qwen3-tied"
).split()  # the keys of zoo.MODELS, which needs torch to be imported
LATER = (
  "llama-yarn llama-dynamic ministral ministral-3 qwen2-sliding gemma-2 gemma-3 gemma-3-tied olmo-2 olmo-3 "
  "smollm3 qwen3-moe mixtral olmoe phi-3 phi-4-mini"
).split()  # those of zoo.LATER_MODELS; test_pattern.py has a fast look at them
# Each switch of NAMES once: one to four queries a key, scaled rope, a window, biases, norms, tied, its own head_dim;
# and experts.
FAST = {"llama-2", "llama-3.1", "mistral-v0.1", "qwen2", "qwen3", "qwen3-moe"}
PARAMS = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in (*NAMES, *LATER)]


@pytest.fixture(scope="session")
def words(tmp_path_factory):
  return tokenizer.train_sentencepiece(TEXT, tmp_path_factory.mktemp("words"), vocab_size=320, fixed=["### Response:"])


@pytest.fixture(scope="module", params=PARAMS)
def pair(request, tmp_path_factory, words):
  """(torch model, its folder, our decoder)."""
  pytest.importorskip("transformers")
  pytest.importorskip("torch")
  from tests.support import zoo

  assert [*zoo.MODELS, *zoo.LATER_MODELS] == [*NAMES, *LATER]
  theirs = zoo.make(request.param)
  folder = tmp_path_factory.mktemp(request.param)
  theirs.save_pretrained(folder)
  words.save(folder)
  return theirs, folder, hf.load(folder)[0]
