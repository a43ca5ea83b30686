"""What moving a model between Hugging Face and a checkpoint costs: host memory beyond the model itself, seconds per GB.

    skymath bench import_export FOLDER [--layers=16]

writes a random float32 model of 1.1 billion parameters (4.4 GB; Llama architecture) to FOLDER, imports it and exports
it again, each by the command that users call. The claim: memory beyond the model's
own arrays stays below four times the largest tensor plus 1 GB. On a machine without accelerator these arrays lie in the
same memory, so their size is taken off the process' peak; pages of mapped files, which the system may drop, are given
apart. FOLDER needs 9 GB and is left empty.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from skymath_jax import models, tokenizer
from skymath_jax.models import DecoderConfig, families, hf, weight_files

SAMPLE_SECONDS = 0.02


def model(layers: int) -> DecoderConfig:
  """1.1 billion parameters with 16 layers."""
  return DecoderConfig(
    vocab_size=32_000, embed=2048, layers=layers, heads=32, kv_heads=8, head_dim=64, mlp=8192, family="llama"
  )


def write_random(folder: Path, config: DecoderConfig) -> int:
  """A Hugging Face folder with random weights, written tensor by tensor; returns the largest tensor's bytes."""
  rng, dtype = np.random.default_rng(0), np.dtype("float32")
  decoder = nnx.eval_shape(lambda: models.Decoder(config))
  shapes = {name: shape for name, shape, _ in hf.tensors_of(decoder, dtype)}
  sources = {
    name: weight_files.Source(shape, lambda shape=shape: rng.standard_normal(shape, dtype))
    for name, shape in shapes.items()
  }
  folder.mkdir(parents=True)
  weight_files.write(folder, weight_files.plan(sources, dtype, 10**9), dtype)
  (folder / "config.json").write_text(json.dumps(families.config_to_hf(config)))
  tokenizer.load(models.resolve("asset:micro_base")).save(folder)
  return max(source.size for source in sources.values()) * 4


def measured(verb: str, *flags: str) -> tuple[dict[str, float], dict]:
  """Runs `skymath VERB`; peaks of its memory by kind in bytes, seconds, and what it printed."""
  command = [sys.executable, "-m", "skymath_jax.cli", verb, *flags, "--logits=false"]
  peaks = {"RssAnon": 0.0, "RssFile": 0.0, "VmHWM": 0.0}
  start = time.perf_counter()
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    while process.poll() is None:
      for line in (Path("/proc") / str(process.pid) / "status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in peaks:
          peaks[key] = max(peaks[key], int(value.split()[0]) * 1024)
      time.sleep(SAMPLE_SECONDS)
    printed = process.stdout.read()
  if process.returncode:
    raise SystemExit(f"{verb} ended with {process.returncode}")
  return peaks | {"seconds": time.perf_counter() - start}, json.loads(printed)


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """One row a direction, with the bound as peer."""
  parser = argparse.ArgumentParser("skymath bench import_export")
  parser.add_argument("folder", type=Path)
  parser.add_argument("--layers", type=int, default=16)
  options = parser.parse_args(words)
  config, folder = model(options.layers), options.folder
  largest, size = write_random(folder / "hf", config), config.parameters * 4
  steps = {
    "import": (f"--hf={folder / 'hf'}", f"--out={folder / 'ours'}"),
    "export": (f"--checkpoint={folder / 'ours'}", f"--out={folder / 'back'}"),
  }
  for verb, flags in steps.items():
    peaks, facts = measured(verb, *flags)
    yield {
      "name": f"import_export.{verb}",
      "value": round((peaks["RssAnon"] - size) / 1e9, 3),
      "unit": "GB of host memory beyond the model",
      "peer": round((4 * largest + 10**9) / 1e9, 3),
      "settings": {
        "parameters": config.parameters,
        "model_gb": round(size / 1e9, 2),
        "largest_tensor_gb": round(largest / 1e9, 3),
        "seconds_per_gb": round(peaks["seconds"] / (size / 1e9), 2),
        "peak_rss_gb": round(peaks["VmHWM"] / 1e9, 2),
        "mapped_files_gb": round(peaks["RssFile"] / 1e9, 2),
        "equal_tensors": facts["equal_tensors"],
      },
    }
    shutil.rmtree(folder / ("hf" if verb == "import" else "ours"))  # what is no longer needed
  shutil.rmtree(folder / "back")
