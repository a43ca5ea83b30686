"""Greedy k-center in JAX, exact and compiled, on one device (Skywork section 3.1; Sener & Savarese 2017).

The greedy rule takes, k times, the point farthest from all centres so far. Its usual form passes over the whole matrix
once per pick. Here a round takes the B farthest points with `top_k`; as long as the best of them beats every point
outside, it is the true arg-max of all, because distances only shrink; then one matrix product updates all distances.
Work is 2·n·k·d: 19 TFLOP for 50,000 of 500,000 × 384, a second or two of an accelerator's peak.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

ROWS_AT_ONCE = 65_536  # rows of the point matrix in one product, which bounds the memory


def k_center(points: np.ndarray, k: int, centres: np.ndarray | None = None, *, block: int = 1024) -> list[int]:
  """`min(k, len(points))` distinct indices in the order of picking, ties to the lowest index.

  Args:
    points: `[n, d]`; float32 arithmetic.
    k: number of picks.
    centres: `[m, d]`, centres given beforehand; without any, point 0 is the first pick.
    block: B above.
  """
  n, k = len(points), min(k, len(points))
  if k <= 0:
    return []
  rows = min(ROWS_AT_ONCE, n)
  padding = -n % rows
  data = jnp.asarray(np.pad(np.asarray(points, np.float32), ((0, padding), (0, 0)))).reshape(-1, rows, points.shape[1])
  distances = jnp.where(jnp.arange(n + padding) < n, jnp.inf, -1.0).reshape(-1, rows)  # -1: not to be picked any more
  picks: list[int] = []
  if centres is not None and len(centres):
    for start in range(0, len(centres), block):
      part = np.asarray(centres[start : start + block], np.float32)
      whole = np.concatenate([part, np.repeat(part[:1], block - len(part), axis=0)])
      distances = _shrink(distances, data, jnp.asarray(whole))
  else:
    picks = [0]
    distances = _shrink(distances, data, jnp.asarray(points[:1], jnp.float32)).at[0, 0].set(-1.0)
  while len(picks) < k:
    distances, found, count = _round(distances, data, k - len(picks), min(block, n))
    picks += np.asarray(found)[: int(count)].tolist()
  return picks


@jax.jit
def _shrink(distances: jax.Array, data: jax.Array, centres: jax.Array) -> jax.Array:
  """Squared distances `[blocks, rows]` to the nearest centre, lowered by `centres` `[m, d]`; picked points stay -1."""
  squares = jnp.sum(centres * centres, axis=1)

  def lower(part: tuple[jax.Array, jax.Array]) -> jax.Array:
    old, points = part
    products = jnp.matmul(points, centres.T, precision=jax.lax.Precision.HIGHEST)
    nearest = jnp.min(squares - 2 * products, axis=1) + jnp.sum(points * points, axis=1)
    return jnp.where(old < 0, old, jnp.minimum(old, jnp.maximum(nearest, 0)))

  return jax.lax.map(lower, (distances, data))


@functools.partial(jax.jit, static_argnames=("block",), donate_argnums=(0,))
def _round(
  distances: jax.Array, data: jax.Array, wanted: jax.Array, block: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(distances, picks `[block]`, their number): at least one, at most `wanted`, each the arg-max of all points."""
  flat, points = distances.reshape(-1), data.reshape(-1, data.shape[-1])
  values, order = jax.lax.top_k(flat, min(block + 1, flat.shape[0]))  # ties: the lowest index first
  bound, bound_index = (values[block], order[block]) if values.shape[0] > block else (-jnp.inf, flat.shape[0])
  inside = jnp.sort(order[:block])  # by index, so that an arg-max picks the lowest
  own = points[inside]
  lengths = jnp.sum(own * own, axis=1)
  between = jnp.maximum(
    lengths[:, None] + lengths[None, :] - 2 * jnp.matmul(own, own.T, precision=jax.lax.Precision.HIGHEST), 0
  )

  def goes_on(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
    current, _, count = state
    best = jnp.argmax(current)
    beats = (current[best] > bound) | ((current[best] == bound) & (inside[best] < bound_index))
    return (count < jnp.minimum(wanted, block)) & (current[best] >= 0) & beats

  def pick(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
    current, picked, count = state
    best = jnp.argmax(current)
    current = jnp.where(current < 0, current, jnp.minimum(current, between[best])).at[best].set(-1.0)
    return current, picked.at[count].set(best), count + 1

  start = (flat[inside], jnp.zeros(block, jnp.int32), jnp.int32(0))
  _, picked, count = jax.lax.while_loop(goes_on, pick, start)
  used = jnp.where(jnp.arange(block) < count, picked, picked[0])  # the first again changes nothing
  lowered = _shrink(distances, data, own[used])
  return lowered.reshape(-1).at[inside[used]].set(-1.0).reshape(distances.shape), inside[used], count
