"""Experts in place of an MLP: a router gives each token a few of many (1701.06538; Mixtral 2401.04088, section 2.1).

No token is dropped and none is padded for: tokens are sorted by expert and multiplied group by group, so that what a
token gets does not depend on its company. On a mesh each device sorts its own tokens and has its share of each expert's
hidden units (`mlp`); what it computes is added up over these shares.
"""

from collections.abc import Callable

import jax
from jax import numpy as jnp

from skymath_jax.models import product
from skymath_jax.models.config import DecoderConfig
from skymath_jax.sharding import per_device


def mixture(
  config: DecoderConfig,
  activation: Callable[[jax.Array], jax.Array],
  x: jax.Array,
  router: jax.Array,
  gate: jax.Array,
  up: jax.Array,
  down: jax.Array,
) -> jax.Array:
  """The sum of each token's experts, weighted by the router: x `[... embed]` -> the same.

  Args:
    config: how many experts, how many of a token, and whether its weights are made to sum to 1.
    activation: of the gate.
    x: activations `[batch length embed]` or `[slots embed]`.
    router: weights `[embed experts]`.
    gate: weights `[experts embed mlp]`.
    up: weights `[experts embed mlp]`.
    down: weights `[experts mlp embed]`.
  """

  def of_device(x: jax.Array, router: jax.Array, gate: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    tokens = x.reshape(-1, x.shape[-1])
    shares, chosen = routed(config, tokens, router)
    order = jnp.argsort(chosen.reshape(-1), stable=True)
    sizes = jnp.bincount(chosen.reshape(-1), length=config.experts)
    rows = tokens[order // config.experts_per_token]
    hidden = activation(grouped(rows, gate, sizes)) * grouped(rows, up, sizes)
    results = grouped(hidden, down, sizes)[jnp.argsort(order)].reshape(*chosen.shape, -1)
    total = jnp.zeros_like(tokens, jnp.float32)
    for i in range(config.experts_per_token):  # one after the other: the same sum in any company
      total += results[:, i].astype(jnp.float32) * shares[:, i, None]
    return total.astype(x.dtype).reshape(x.shape)

  rows = ("batch", "length", "act_embed") if x.ndim == 3 else ("slots", "act_embed")
  inner, outer = (None, None, "mlp"), (None, "mlp", None)
  weights = [w.astype(x.dtype) for w in (router, gate, up, down)]
  return per_device(of_device, (rows, (None, None), inner, inner, outer), rows, summed="mlp")(x, *weights)


def routed(config: DecoderConfig, tokens: jax.Array, router: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Weights, float32, and numbers, int32, of each token's experts, both `[tokens experts_per_token]`.

  The softmax is over all experts; `tokens` are `[tokens embed]`, `router` is `[embed experts]`.
  """
  logits = product.product("...d,de->...e", tokens, router).astype(jnp.float32)
  shares, chosen = jax.lax.top_k(product.softmax(logits), config.experts_per_token)
  return (shares / product.row_sums(shares) if config.normalize_experts else shares), chosen


def grouped(rows: jax.Array, weights: jax.Array, sizes: jax.Array) -> jax.Array:
  """Products of rows `[rows in]` with weights `[experts in out]`: the first `sizes[0]` rows with the first, and so on.

  A TPU has an instruction for it; elsewhere XLA multiplies each row with all experts, and masks.
  """
  wide = jnp.float32 if product.wide_sums(rows.dtype) else None
  return jax.lax.ragged_dot(rows, weights, sizes, preferred_element_type=wide).astype(rows.dtype)
