"""The one place that knows how to load google-jetstream 0.2.2 beside current JAX, and without TensorFlow.

The package was archived in January 2026. Its faults at import, and what is done here, without leaving a trace:
- it imports seqio (hence TensorFlow, 3 s and hundreds of MB) for vocabularies that are not used: a placeholder module
  stands in while it loads;
- it sets the root logger to DEBUG with a handler on stdout: level and handlers are put back;
- its `delete_pytree` calls `jax.tree_map`, gone from JAX: the function is replaced (JAX itself is not touched);
- it logs several lines a step through the root logger: its modules get a silent `logging` of their own.
"""

import contextlib
import importlib
import logging
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import jax

PLACEHOLDERS = ("seqio", "seqio.vocabularies")
_lock = threading.Lock()


class _Silent:
  """Stands for the `logging` module inside JetStream: below WARNING nothing is formatted or written."""

  def __getattr__(self, name: str) -> Any:
    return getattr(logging, name)

  def info(self, *_: Any, **__: Any) -> None:
    """Drops the line."""

  debug = info


@contextlib.contextmanager
def _without_seqio() -> Iterator[None]:
  """Placeholder `seqio` modules while the block runs, unless the real ones are loaded already."""
  if "seqio" in sys.modules:
    yield
    return
  package: Any = types.ModuleType("seqio")
  vocabularies = types.ModuleType("seqio.vocabularies")
  for name in ("Vocabulary", "SentencePieceVocabulary"):
    setattr(vocabularies, name, type(name, (), {}))
  package.vocabularies = vocabularies
  sys.modules |= {"seqio": package, "seqio.vocabularies": vocabularies}
  try:
    yield
  finally:
    for name in PLACEHOLDERS:
      del sys.modules[name]


@contextlib.contextmanager
def _root_logger_kept() -> Iterator[None]:
  root = logging.getLogger()
  level, handlers = root.level, list(root.handlers)
  try:
    yield
  finally:
    root.setLevel(level)
    root.handlers[:] = handlers


def _delete_pytree(tree: Any) -> None:
  for leaf in jax.tree.leaves(tree):
    if isinstance(leaf, jax.Array):
      leaf.delete()


def load(name: str) -> Any:
  """The module `jetstream.NAME`, made fit for use; loading twice gives the same module."""
  with _lock, _without_seqio(), _root_logger_kept():
    module: Any = importlib.import_module(f"jetstream.{name}")
    if "logging" in vars(module):
      module.logging = _Silent()
    if name == "core.orchestrator":
      module.delete_pytree = _delete_pytree
    return module
