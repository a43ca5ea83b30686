"""Programs that are compiled in a third of the time, since a test runs them once and on small arrays."""

import functools

import jax
from flax import nnx

FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # of compilation


def jit(function):
  """`function(decoder, *arrays)`, compiled."""

  @functools.partial(jax.jit, static_argnums=0, compiler_options=FAST)
  def run(graph, params, *arrays):
    return function(nnx.merge(graph, params), *arrays)

  return lambda decoder, *arrays: run(*nnx.split(decoder, nnx.Param), *arrays)
