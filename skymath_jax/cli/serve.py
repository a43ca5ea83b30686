"""`skymath serve`: a model behind gRPC and HTTP."""

from collections.abc import Sequence

from skymath_jax import config as config_lib
from skymath_jax.cli.flags import Flag, parse


def serve(argv: Sequence[str]) -> int:
  """`skymath serve`."""
  serving = config_lib.Serving()
  wanted = (
    Flag("model", None, "HF folder, checkpoint folder or asset:NAME", required=True),
    Flag("host", "127.0.0.1", "address to listen on; others than loopback need --allow_remote"),
    Flag("port", 9000, "gRPC port; 0 = any free one"),
    Flag("http_port", 0, "port of the HTTP front (OpenAI-compatible, /health, /metrics); 0 = any free one"),
    Flag("slots", serving.slots, "sequences decoded at once"),
    Flag("max_length", serving.max_length, "prompt + response tokens a slot can hold"),
    Flag("steps_per_call", serving.steps_per_call, "decode steps per host call"),
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
