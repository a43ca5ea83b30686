"""Adapters from the command line: trained, gone on with, exported merged and as PEFT's, and started from again."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from skymath_jax import files, models
from skymath_jax.cli import main
from skymath_jax.errors import UserError
from skymath_jax.models import lora, orbax_folder, peft
from skymath_jax.models.lora import Adapters
from tests.support.curation import story

pytestmark = pytest.mark.slow
FLAGS = (
  "--config.training.lora_rank=4", "--config.training.lora_alpha=8", "--config.training.stage1.epochs=4",
  "--config.training.stage1.learning_rate=1e-2", "--config.training.rows=2", "--config.training.max_length=96",
  "--config.model.dtype=float32",
)  # fmt: skip
TOKENS = np.arange(3, 35)[None]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  folder = tmp_path_factory.mktemp("home")
  rows = [{"problem": story("horse", n), "solution": f"{n}.\nThe answer is {n}"} for n in range(2, 8)]
  (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  return folder


def train(home, workdir, *more, model="asset:micro_base"):
  words = ("train", f"--data={home / 'pairs.jsonl'}", f"--model={model}", f"--workdir={home / workdir}")
  return main.call([*words, *FLAGS, *more])


@pytest.fixture(scope="module")
def stage1(home):
  assert train(home, "w") == 0
  return home / "w/checkpoints/stage1"


def logits(decoder):
  graph, state = nnx.split(decoder)
  return np.asarray(jax.jit(lambda state: nnx.merge(graph, state)(TOKENS))(state))


def test_a_checkpoint_holds_adapters_and_says_of_what(stage1):
  kept = files.read_json(stage1 / "adapter.json")
  assert kept["base"] == "asset:micro_base" and kept["base_hash"] == models.weights_hash("asset:micro_base")
  assert kept["adapters"] == {"rank": 4, "alpha": 8.0, "base": ""}
  decoder, _, _ = models.load_adapted(stage1)
  _, factors, frozen = lora.split(decoder)
  assert orbax_folder.read_meta(stage1, orbax_folder.committed(stage1)[0])["weights"] == orbax_folder.checksum(factors)
  base, _ = models.load_any("asset:micro_base")
  before = logits(base)
  base = orbax_folder.named(nnx.state(models.laid_out(base, decoder.config), nnx.Param))
  for name, value in orbax_folder.named(frozen).items():
    np.testing.assert_array_equal(value, base[name.removesuffix(".weight")])
  merged, _ = models.load_any(stage1)
  assert np.abs(logits(decoder) - before).max() > 0.1
  np.testing.assert_allclose(logits(merged), logits(decoder), atol=1e-4)
  assert models.weights_hash(stage1) != orbax_folder.checksum(factors)


def test_what_does_not_belong_together_is_refused(home, stage1, tmp_path, capfd):
  assert train(home, "other", "--config.training.lora_rank=8", model=stage1) == 1
  assert "the adapters' rank is 4, not 8" in capfd.readouterr().err
  assert train(home, "few", "--config.training.lora_rank=0", "--config.model.param_dtype=nf4") == 1
  assert "nf4 weights cannot be trained" in capfd.readouterr().err
  kept = files.read_json(stage1 / "adapter.json")
  try:
    files.write_json(stage1 / "adapter.json", {**kept, "base_hash": "0" * 16})
    with pytest.raises(UserError, match="had 0000000000000000"):
      models.load_any(stage1)
  finally:
    files.write_json(stage1 / "adapter.json", kept)
  files.write_json(tmp_path / "adapter_config.json", {"base_model_name_or_path": "x", "r": 4, "use_dora": True})
  with pytest.raises(UserError, match="use_dora = True is not supported"):
    models.load_any(tmp_path)


def test_peft_folders_go_out_and_come_in(home, stage1):
  words = ["export", f"--checkpoint={stage1}", f"--out={home / 'adapter'}", "--adapter"]
  assert main.call(words) == 0
  adapters = Adapters(rank=4, alpha=8.0)
  decoder, tokenizer, reference = models.load_adapted(home / "adapter", adapters)
  assert reference.adapters == adapters and tokenizer.chat_template
  np.testing.assert_allclose(logits(decoder), logits(models.load_adapted(stage1)[0]), atol=1e-5)
  assert train(home, "again", model=home / "adapter") == 0  # goes on from there
  kept = files.read_json(home / "again/checkpoints/stage1/adapter.json")
  assert kept == reference.as_json()


def test_peft_and_transformers_give_the_same_logits(home, stage1):
  torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
  theirs = pytest.importorskip("peft")
  assert main.call(["export", f"--checkpoint={stage1}", f"--out={home / 'for_peft'}", "--adapter"]) == 0
  base = transformers.AutoModelForCausalLM.from_pretrained(models.resolve("asset:micro_base"), dtype=torch.float32)
  model = theirs.PeftModel.from_pretrained(base, home / "for_peft").eval()
  decoder, _, _ = models.load_adapted(stage1)
  with torch.no_grad():
    found = model(torch.tensor(TOKENS)).logits.numpy()
  np.testing.assert_allclose(logits(decoder), found, atol=1e-4)
  model.save_pretrained(home / "from_peft")  # and what it writes is read
  again, _, _ = models.load_adapted(home / "from_peft")
  np.testing.assert_allclose(logits(again), logits(decoder), atol=1e-5)
  assert peft.adapters_of(files.read_json(home / "from_peft/adapter_config.json"), where="") == Adapters(
    rank=4, alpha=8
  )


@pytest.mark.parametrize("form", ["", "nf4"])
def test_the_merged_export_is_the_adapted_model(home, form, capfd):
  more = (f"--config.model.param_dtype={form}",) if form else ()
  assert train(home, f"w{form}", *more) == 0
  capfd.readouterr()
  folder = home / f"w{form}/checkpoints/stage1"
  assert main.call(["export", f"--checkpoint={folder}", f"--out={home / f'merged{form}'}", "--dtype=float32"]) == 0
  facts = json.loads(capfd.readouterr().out)
  assert facts["merge_max_abs_logit_diff"] < 1e-4 and facts["max_abs_logit_diff"] < 1e-4
  print(facts)
