"""`skymath serve`: a model behind gRPC and HTTP."""

from collections.abc import Sequence

from skymath_jax import config as config_lib
from skymath_jax.cli.flags import Flag, parse


def serve(argv: Sequence[str]) -> int:
  """`skymath serve`."""
  from skymath_jax.engine.types import EngineSettings as engine  # noqa: N813
  from skymath_jax.server.settings import ServerSettings as server  # noqa: N813

  serving = config_lib.Serving()
  wanted = (
    Flag("model", None, "HF folder, checkpoint folder or asset:NAME", required=True),
    Flag("host", server.host, "address to listen on; others than loopback need --allow_remote"),
    Flag("port", server.port, "gRPC port; 0 = any free one"),
    Flag("http_port", server.http_port, "port of the HTTP front (OpenAI-compatible, /health, /metrics); 0 = any free"),
    Flag("slots", serving.slots, "sequences decoded at once, at most: fewer where memory ends"),
    Flag("max_length", serving.max_length, "prompt + response tokens a slot can hold"),
    Flag("steps_per_call", serving.steps_per_call, "decode steps per host call"),
    Flag("queue_size", server.queue_size, "requests that may wait; more are refused with RESOURCE_EXHAUSTED"),
    Flag("dtype", "", "float32 | bfloat16; empty = as stored"),
    Flag("weights", engine.weights, "int8 halves the memory of bfloat16 weights"),
    Flag("kv", engine.kv, "int8 halves the memory of bfloat16 keys and values"),
    Flag("prefill_chunk", engine.prefill_chunk, "prompt tokens run at once; few-shot headers are shared in such steps"),
    Flag("chat_frame", server.chat_frame, "prompt frame of chats, for a model without a chat template; raw = none"),
    Flag("allow_remote", False, "lets other machines in, who show the token of SKYMATH_TOKEN, or one that is made"),
    Flag("without_token", False, "lets other machines in without a token"),
    Flag("tls_certificate", server.tls_certificate, "PEM file; gRPC and HTTP are encrypted"),
    Flag("tls_key", server.tls_key, "PEM file with the certificate's private key"),
    Flag("drain_seconds", server.drain_seconds, "how long requests under way may take to finish after SIGTERM"),
    Flag("exit_with_parent", False, "stop when standard input closes"),
  )
  values = parse(argv, *wanted)
  from skymath_jax.server.serve import serve_model

  serve_model(**{flag.name: getattr(values, flag.name) for flag in wanted})
  return 0
