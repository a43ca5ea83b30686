"""The product of hidden states with the vocabulary, and its gradient."""

import jax
from jax import numpy as jnp

from skymath_jax.models.product import of_out_in, summed


@jax.custom_vjp
def vocabulary_logits(hidden: jax.Array, table: jax.Array) -> jax.Array:
  """Float32 logits `[... vocab]` of `hidden` `[... embed]` and `table` `[vocab embed]`, multiplied in hidden's dtype.

  The gradient casts the logits' cotangent to that dtype: JAX's own would be float32 and make both of its matmuls
  float32, several times slower. They sum in float32; the table's gradient leaves in the table's dtype, so that chunks
  of a batch add up in it.
  """
  return of_out_in(hidden, table)


def _logits_forward(hidden: jax.Array, table: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return vocabulary_logits(hidden, table), (hidden, table)


def _logits_backward(residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
  hidden, table = residuals
  cotangent = cotangent.astype(hidden.dtype)
  to_hidden = summed("...v,vd->...d", cotangent, table.astype(hidden.dtype))
  return to_hidden, jnp.einsum("...v,...d->vd", cotangent, hidden, preferred_element_type=table.dtype)


vocabulary_logits.defvjp(_logits_forward, _logits_backward)
