"""Attention of one token a slot in float64, by loops: what decode kernels are compared with."""

import numpy as np


def reference(q, keys, values, lengths, window=None):
  """float64, as `q` `[slots kv_heads group head_dim]`, over keys and values `[slots kv_heads length head_dim]`."""
  q, keys, values = (np.asarray(x, np.float64) for x in (q, keys, values))
  out = np.zeros(q.shape)
  for slot, n in enumerate(np.asarray(lengths)):
    start = 0 if window is None else max(0, n - window)
    for head in range(keys.shape[1]):
      scores = q[slot, head] @ keys[slot, head, start:n].T
      weights = np.exp(scores - scores.max(axis=1, keepdims=True))
      out[slot, head] = weights / weights.sum(axis=1, keepdims=True) @ values[slot, head, start:n]
  return out
