"""Hugging Face -> import -> checkpoint -> export -> Hugging Face: the same bits, names, types and side files."""

import json
import os
import socket
import subprocess
import sys
import textwrap

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
from flax import nnx

from skymath_jax import models, tokenizer
from skymath_jax.convert.exporting import export_checkpoint
from skymath_jax.convert.importing import import_folder
from skymath_jax.errors import UserError
from skymath_jax.models import Decoder, DecoderConfig, hf, orbax_folder, weight_files

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.support import zoo  # noqa: E402, needs both

SIDE = {
  "generation_config.json": b'{"eos_token_id": [2, 7],\r\n\t"do_sample": true, "temperature": 0.6}',  # not as we write
  "chat_template.jinja": "{{ messages }} é".encode(),
  "special_tokens_map.json": b'{"bos_token": "<s>", "eos_token": "</s>"}',
  "LICENSE.txt": b"All rights\r\n",
}
DTYPES = ("bfloat16", "float32", "float16")


def tensors(folder):
  found = {}
  for path in sorted(folder.glob("*.safetensors")):
    found |= safetensors.numpy.load_file(path)
  return found


def assert_same_tensors(before, after):
  assert before.keys() == after.keys()
  for name, tensor in before.items():
    assert tensor.dtype == after[name].dtype, name
    assert tensor.shape == after[name].shape, name
    assert tensor.tobytes() == after[name].tobytes(), name


def original(theirs, words, folder, dtype, *, odd_numbers=False):
  """A folder of several files in `dtype`, with side files and, if asked, with numbers that casts like to spoil."""
  config = theirs.config
  copy = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation="eager")
  copy.load_state_dict(theirs.state_dict())
  odd = torch.finfo(copy.dtype)
  if odd_numbers:
    numbers = torch.tensor([-0.0, odd.smallest_normal, odd.smallest_normal / 4, -odd.max], dtype=copy.dtype)
    copy.model.norm.weight.data[:4] = numbers
  copy.save_pretrained(folder, max_shard_size="20KB")
  words.save(folder)
  for name, data in SIDE.items():
    (folder / name).write_bytes(data)
  return copy


def test_every_family_comes_back_bit_for_bit(pair, words, tmp_path, request):
  theirs, _, _ = pair
  dtype = DTYPES[request.node.callspec.indices["pair"] % 3]
  copy = original(theirs, words, tmp_path / "hf", dtype, odd_numbers=True)
  model, tok = hf.load(tmp_path / "hf", dtype=hf.stored_dtype(tmp_path / "hf"))
  orbax_folder.save(model, tok, tmp_path / "ours")
  again, tok = orbax_folder.load(tmp_path / "ours")
  assert again.config == model.config == models.config_of(tmp_path / "ours")
  assert again.config.param_dtype == dtype
  hf.save(again, tmp_path / "back", tok, max_shard_size=30_000)
  assert_same_tensors(tensors(tmp_path / "hf"), tensors(tmp_path / "back"))
  kept = {*SIDE, "tokenizer.json", "tokenizer.model", "tokenizer_config.json"}
  for name in kept:
    assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "hf" / name).read_bytes(), name
  index = json.loads((tmp_path / "back" / "model.safetensors.index.json").read_text())
  assert set(index["weight_map"].values()) == {path.name for path in (tmp_path / "back").glob("*.safetensors")}

  loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back", attn_implementation="eager")
  assert type(loaded) is type(theirs)
  assert loaded.dtype == copy.dtype
  assert loaded.generation_config.eos_token_id == loaded.config.eos_token_id == [2, 7]
  state = copy.state_dict()
  assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
  ids = [
    transformers.AutoTokenizer.from_pretrained(tmp_path / name)("Tom has 12 apples.").input_ids
    for name in ("hf", "back")
  ]
  assert ids[0] == ids[1]
  if theirs.config.model_type != "qwen2":  # there transformers puts a class of its own in place of any that is named
    assert ids[1] == words.encode("Tom has 12 apples.", bos=True)


@pytest.mark.parametrize("name", ["qwen2", pytest.param("mistral-v0.1", marks=pytest.mark.slow)])
def test_the_verbs(name, words, tmp_path):
  """Import and export as the command line calls them, each with its own comparison; all shards, one process."""
  copy = original(zoo.make(name), words, tmp_path / "hf", "bfloat16")
  made = import_folder(str(tmp_path / "hf"), str(tmp_path / "ours"))
  assert made["equal_tensors"] == len(tensors(tmp_path / "hf"))
  assert made["dtype"] == "bfloat16"
  assert made["compared_with"].startswith("transformers")
  assert made["max_abs_logit_diff"] <= 1e-4
  back = export_checkpoint(tmp_path / "ours", tmp_path / "back", dtype="auto", new_tokens=8, max_shard_gb=30e-6)
  assert back["max_abs_logit_diff"] <= 1e-4
  assert back["same_greedy_text"]
  assert back["dtype"] == "bfloat16"
  assert_same_tensors(tensors(tmp_path / "hf"), tensors(tmp_path / "back"))
  assert len(list((tmp_path / "back").glob("*.safetensors"))) > 1
  assert models.weights_hash(tmp_path / "back") != ""
  card = (tmp_path / "back" / "README.md").read_text()
  assert card.startswith("---\nlibrary_name: transformers\n")
  assert f"{copy.num_parameters():,} parameters in bfloat16" in card
  assert "Converted without training" in card


CONFIG = DecoderConfig(vocab_size=320, embed=32, layers=3, heads=4, kv_heads=2, head_dim=8, mlp=48)


def test_layers_that_do_not_fit_the_staging_go_in_turns(tmp_path, words, monkeypatch):
  """One and two layers at a time give the same stacks as all at once, and the host never holds more."""
  hf.save(Decoder(CONFIG), tmp_path / "m", words)
  whole = nnx.to_pure_dict(nnx.state(hf.load(tmp_path / "m")[0], nnx.Param))
  stacks, stack = [], np.stack
  monkeypatch.setattr(np, "stack", lambda parts: stacks.append(len(parts)) or stack(parts))
  for layers, staging in ((1, 1), (2, 2 * 32 * 48 * 4)):
    monkeypatch.setattr(hf, "STAGING", staging)
    stacks.clear()
    parts = nnx.to_pure_dict(nnx.state(hf.load(tmp_path / "m")[0], nnx.Param))
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
    assert min(stacks) == 1
    assert layers in stacks


def test_a_checkpoint_is_written_and_read_in_turns(tmp_path, words, monkeypatch):
  """With room for the largest array only: the same model, several reads, and no data file much above its target."""
  saved, reads, restore = Decoder(CONFIG), [], ocp.Checkpointer.restore
  arrays = orbax_folder.named(nnx.state(saved, nnx.Param))
  limit = orbax_folder.ORBAX_SLACK * max(x.nbytes for x in arrays.values())
  monkeypatch.setattr(orbax_folder, "concurrent_gb", lambda arrays: limit / 1e9)
  monkeypatch.setattr(orbax_folder, "CHUNK_BYTES", 2**11)
  monkeypatch.setattr(orbax_folder, "DATA_FILE_BYTES", 2**12)
  orbax_folder.save(saved, words, tmp_path / "c")
  sizes = [path.stat().st_size for path in (tmp_path / "c" / "steps" / "0" / "params").rglob("d/*")]
  assert len(sizes) > sum(x.nbytes for x in arrays.values()) / limit
  monkeypatch.setattr(
    ocp.Checkpointer,
    "restore",
    lambda self, path, args: reads.append(list(args.item)) or restore(self, path, args=args),
  )
  loaded = orbax_folder.named(nnx.state(orbax_folder.load(tmp_path / "c")[0], nnx.Param))
  jax.tree.map(np.testing.assert_array_equal, {**loaded}, {**arrays})
  assert [name for read in reads for name in read] == list(arrays)
  assert len(reads) > 1
  assert all(sum(arrays[name].nbytes for name in read) <= limit for read in reads)
  assert max(sizes) <= 2**12 + 2**11


def test_a_folder_of_two_types_is_held_in_float32(tmp_path, words):
  hf.save(Decoder(CONFIG), tmp_path / "m", words, dtype="bfloat16")
  assert hf.stored_dtype(tmp_path / "m") == "bfloat16"
  path = tmp_path / "m" / "model.safetensors"
  mixed = safetensors.numpy.load_file(path)
  mixed["model.norm.weight"] = mixed["model.norm.weight"].astype(np.float16)
  safetensors.numpy.save_file(mixed, path)
  assert hf.stored_dtype(tmp_path / "m") == "float32"


def test_a_tensor_that_differs_is_named(tmp_path, words):
  model = Decoder(CONFIG)
  hf.save(model, tmp_path / "m", words)
  assert hf.verify(model, tmp_path / "m") == 3 * 9 + 3
  path = tmp_path / "m" / "model.safetensors"
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  path.write_bytes(data)
  with pytest.raises(UserError, match=r"lm_head\.weight is not the same"):
    hf.verify(model, tmp_path / "m")


SHARD = "model-00001-of-00001.safetensors"


@pytest.mark.parametrize(
  ("index", "says"),
  [
    ({"weight_map": {"model.norm.weight": f"../{SHARD}"}}, "no safetensors file of this folder"),
    ({"weight_map": {"model.norm.weight": "weights.bin"}}, "no safetensors file of this folder"),
    ({"weight_map": [SHARD]}, "no weight_map"),
    ({}, "no weight_map"),
    ({"weight_map": {"model.other.weight": SHARD}}, rf"model\.other\.weight is not in {SHARD}"),
  ],
)
def test_an_index_that_lies_is_refused(tmp_path, words, index, says):
  hf.save(Decoder(CONFIG), tmp_path / "m", words)
  (tmp_path / "m" / weight_files.SINGLE).rename(tmp_path / "m" / SHARD)
  (tmp_path / "m" / weight_files.INDEX).write_text(json.dumps(index))
  with pytest.raises(UserError, match=says):
    hf.load(tmp_path / "m")


KILLED = """
  import os, signal, sys
  from skymath_jax import tokenizer
  from skymath_jax.models import Decoder, DecoderConfig, hf, weight_files
  write, files = weight_files.write_file, []
  def until_the_third(path, *rest):
    files.append(path)
    if len(files) == 3:
      path.write_bytes(b"half a file")
      os.kill(os.getpid(), signal.SIGKILL)
    write(path, *rest)
  weight_files.write_file = until_the_third
  config = DecoderConfig(vocab_size=320, embed=32, layers=3, heads=4, kv_heads=2, head_dim=8, mlp=48)
  hf.save(Decoder(config), sys.argv[1], tokenizer.load(sys.argv[2]), max_shard_size=20_000)
"""


def test_a_killed_export_never_looks_complete(tmp_path, words):
  words.save(tmp_path / "words")
  command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "out"), str(tmp_path / "words")]
  done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
  assert done.returncode == -9, done.stderr[-2000:]
  assert not (tmp_path / "out").exists()
  assert len(list(tmp_path.glob(".out.*.tmp"))) == 1
  hf.save(Decoder(CONFIG), tmp_path / "out", words)  # the next one takes the rest away
  assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "words"]
  assert hf.load(tmp_path / "out")[0].config == CONFIG


TWO = """
  import contextlib, json, sys
  import jax
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  from skymath_jax import distributed, sharding, tokenizer
  from skymath_jax.models import hf, weight_files
  from skymath_jax.convert.exporting import export_checkpoint
  from skymath_jax.convert.importing import import_folder
  distributed.initialize()
  assert (jax.process_count(), jax.local_device_count(), jax.device_count()) == (2, 2, 4)
  folder = sys.argv[1]
  made = import_folder(f"{folder}/hf", f"{folder}/ours")
  back = export_checkpoint(f"{folder}/ours", f"{folder}/back", dtype="auto", max_shard_gb=30e-6)
  opened, reads = weight_files.Stored.open, []
  class Counted:
    def __init__(self, tensor):
      self.tensor = tensor
    def __getitem__(self, index):
      part = self.tensor[index]
      reads.append(part.size)
      return part
  @contextlib.contextmanager
  def counting(stored):
    with opened(stored) as tensor:
      yield Counted(tensor)
  weight_files.Stored.open = counting
  model, words = hf.load(f"{folder}/hf", mesh=sharding.make_mesh(fsdp=2, tensor=2), dtype="bfloat16")
  hf.save(model, f"{folder}/crossed", words)
  q = model.layers.q[...]
  facts = {"made": made, "back": back, "read": sum(reads), "parameters": model.config.parameters}
  facts |= {"spec": str(q.sharding.spec), "mine": len(q.addressable_shards), "writer": distributed.is_writer()}
  print(json.dumps(facts))
"""


def test_two_processes_import_and_export_together(tmp_path, words):
  """A real job of two: each reads its own shards, Orbax writes once, the first process writes the folder."""
  original(zoo.make("qwen3"), words, tmp_path / "hf", "bfloat16")
  job = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",
    "JAX_COORDINATOR_ADDRESS": f"localhost:{free_port()}",
    "JAX_NUM_PROCESSES": "2",
  }
  command = [sys.executable, "-c", textwrap.dedent(TWO), str(tmp_path)]
  both = [
    subprocess.Popen(command, env=job | {"JAX_PROCESS_ID": str(i)}, stdout=-1, stderr=-1, text=True) for i in (0, 1)
  ]
  try:
    outputs = [process.communicate(timeout=240) for process in both]
  finally:
    for process in both:
      process.kill()
  assert [process.returncode for process in both] == [0, 0], "\n".join(err[-2000:] for _, err in outputs)
  facts = [json.loads(out.splitlines()[-1]) for out, _ in outputs]
  assert [fact["writer"] for fact in facts] == [True, False]
  want = tensors(tmp_path / "hf")
  for fact in facts:
    assert fact["made"]["equal_tensors"] == fact["back"]["equal_tensors"] == len(want)
    assert fact["made"]["compared_with"] == "not compared: several processes"
    assert "fsdp" in fact["spec"] and "tensor" in fact["spec"]
    assert fact["mine"] == 2
    assert fact["read"] <= 0.55 * fact["parameters"]  # half of each matrix; norms whole
  for name in ("back", "crossed"):
    assert_same_tensors(want, tensors(tmp_path / name))
    assert (tmp_path / name / "generation_config.json").read_bytes() == SIDE["generation_config.json"]
  assert len(list((tmp_path / "back").glob("*.safetensors"))) > 2
  assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "crossed", "hf", "ours"]
  assert tokenizer.load(tmp_path / "ours" / "tokenizer").hash == words.hash


def free_port():
  with socket.socket() as s:
    s.bind(("localhost", 0))
    return s.getsockname()[1]
