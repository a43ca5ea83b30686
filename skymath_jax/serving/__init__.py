"""Serving: the engine (`engine`), JetStream around it (`driver`, `service`, `server`), and the same engine in process
(`local`). Nothing here imports JetStream until one of its parts is asked for.
"""

import importlib
from typing import Any

PARTS = {
  "DecoderEngine": "skymath_jax.serving.engine",
  "LocalGenerator": "skymath_jax.serving.local",
  "ServerProcess": "skymath_jax.serving.process",
  "checked": "skymath_jax.serving.server",
  "serve": "skymath_jax.serving.server",
}


def __getattr__(name: str) -> Any:
  if name not in PARTS:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(PARTS[name]), name)
