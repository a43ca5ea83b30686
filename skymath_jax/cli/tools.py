"""The verbs that stand outside a run: export, import, serve, grade, config."""

import json
import os
from collections.abc import Sequence

from ml_collections import ConfigDict

from skymath_jax import config as config_lib
from skymath_jax.cli.flags import Flag, parse
from skymath_jax.errors import UsageError

LOGITS = Flag("logits", True, "beside every tensor, compare logits with transformers' where memory allows")


def export(argv: Sequence[str]) -> int:
  """`skymath export`."""
  checkpoint = Flag("checkpoint", None, "checkpoint folder, such as WORKDIR/checkpoints/stage2", required=True)
  out = Flag("out", None, "Hugging Face folder to write", required=True)
  dtype = Flag("dtype", "auto", "float32 | bfloat16 | float16 | auto = the imported files' own, bfloat16 if trained")
  size = Flag("max_shard_gb", 5.0, "largest file of weights, in 10^9 bytes")
  values = parse(argv, checkpoint, out, dtype, size, LOGITS)
  if values.dtype not in (known := ("auto", "float32", "bfloat16", "float16")):
    raise UsageError(f"--dtype={values.dtype} is not known; use one of {', '.join(known)}.")
  from skymath_jax import distributed
  from skymath_jax.convert import tools

  distributed.initialize()
  facts = tools.export_checkpoint(
    values.checkpoint, values.out, dtype=values.dtype, max_shard_gb=values.max_shard_gb, logits=values.logits
  )
  if distributed.is_writer():
    print(json.dumps(facts, indent=2))
  return 0


def import_(argv: Sequence[str]) -> int:
  """`skymath import`."""
  hf = Flag("hf", None, "Hugging Face folder (safetensors)")
  out = Flag("out", None, "checkpoint folder to write")
  families = Flag("list", False, "list the model families that can be imported and exported")
  values = parse(argv, hf, out, families, LOGITS)
  from skymath_jax import distributed
  from skymath_jax.convert import tools

  if values.list:
    print("\n".join(tools.families()))
    return 0
  if values.hf is None or values.out is None:
    raise UsageError("give --hf=FOLDER and --out=FOLDER. See skymath import --help.")
  distributed.initialize()
  facts = tools.import_folder(values.hf, values.out, logits=values.logits)
  if distributed.is_writer():
    print(json.dumps(facts, indent=2))
  return 0


def serve(argv: Sequence[str]) -> int:
  """`skymath serve`."""
  wanted = (
    Flag("model", None, "HF folder, checkpoint folder or asset:NAME", required=True),
    Flag("host", "127.0.0.1", "address to listen on; others than loopback need --allow_remote"),
    Flag("port", 9000, "gRPC port; 0 = any free one"),
    Flag("http_port", 0, "port of the HTTP front (OpenAI-compatible, /health, /metrics); 0 = any free one"),
    Flag("slots", 64, "sequences decoded at once"),
    Flag("max_length", 2048, "prompt + response tokens a slot can hold"),
    Flag("steps_per_call", 8, "decode steps per host call"),
    Flag("queue_size", 4096, "requests that may wait; more are refused with RESOURCE_EXHAUSTED"),
    Flag("dtype", "", "float32 | bfloat16; empty = as stored"),
    Flag("weights", "as stored", "int8 halves the memory of bfloat16 weights"),
    Flag("kv", "as computed", "int8 halves the memory of bfloat16 keys and values"),
    Flag("prefill_chunk", 256, "prompt tokens run at once, and the step in which few-shot headers are shared"),
    Flag("chat_frame", "sft/alpaca", "prompt frame of chat messages, for a model without a chat template; raw = none"),
    Flag("allow_remote", False, "lets other machines in; the environment variable SKYMATH_TOKEN asks them for a token"),
    Flag("tls_certificate", "", "PEM file; gRPC and HTTP are encrypted"),
    Flag("tls_key", "", "PEM file with the certificate's private key"),
    Flag("drain_seconds", 8.0, "how long requests under way may take to finish after SIGTERM"),
    Flag("exit_with_parent", False, "stop when standard input closes"),
  )
  values = parse(argv, *wanted)
  from skymath_jax.server.serve import serve_model

  serve_model(**{flag.name: getattr(values, flag.name) for flag in wanted})
  return 0


def grade(argv: Sequence[str]) -> int:
  """`skymath grade`."""
  wanted = (
    Flag("input", None, 'JSONL of {"gold", "pred"} or {"gold", "response"} rows', required=True),
    Flag("output", None, 'JSONL to write: the same rows with "extracted" and "correct"', required=True),
    Flag("mode", "symbolic", "strict (the paper's string grader) | symbolic"),
    Flag("workers", 0, "processes to grade in; 0 takes one a CPU core"),
  )
  values = parse(argv, *wanted)
  if values.mode not in config_lib.CHOICES["evaluation.mode"]:
    raise UsageError(f"--mode={values.mode} is not known; use strict or symbolic.")
  if values.workers < 0:
    raise UsageError(f"--workers={values.workers}: give one or more, or 0 for one a CPU core.")
  from skymath_jax import grading

  workers = values.workers or os.cpu_count() or 1
  print(json.dumps(grading.grade_file(values.input, values.output, mode=values.mode, workers=workers), indent=2))
  return 0


def config(argv: Sequence[str]) -> int:
  """`skymath config`: every key, its value (in `--config=FILE`, else the default) and its meaning."""
  values = parse(argv, config="optional")
  experiment: ConfigDict = values.config if values.config is not None else config_lib.base()
  documentation = config_lib.documentation()
  for key, value in config_lib.flatten(experiment).items():
    print(f"config.{key} = {value!r}  # {documentation[key]}")
  print(f"# config_hash {config_lib.config_hash(experiment)}")
  return 0
