"""Every family against transformers in one batch: logits and gradients; padded right, padded left, packed; bfloat16.

The three pieces of text lie right-padded in rows 0-2, left-padded in rows 3-5 and packed in row 6, so one compilation
answers for all; the weights of the loss choose the rows.
"""

import functools

import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

from skymath_jax.models import hf

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.support import zoo  # noqa: E402, needs both
from tests.support.quick_jit import FAST, jit  # noqa: E402

LENGTH, PIECES = 40, (17, 12, 9)  # each longer than the window (7), one longer than the scaled rope's 16 positions


def draw(vocab):
  return [np.random.default_rng(i).integers(3, vocab, n) for i, n in enumerate(PIECES)]


@functools.cache
def batch(vocab):
  """tokens, positions, segment_ids of all layouts, int `[7 LENGTH]`, and for each row where its pieces begin."""
  tokens, positions, segment_ids = (np.zeros((7, LENGTH), np.int32) for _ in range(3))
  starts = [[(0, i)] for i in range(3)] + [[(LENGTH - n, i)] for i, n in enumerate(PIECES)]
  starts.append([(0, 0), (PIECES[0], 1), (PIECES[0] + PIECES[1], 2)])
  for row, pieces in enumerate(starts):
    for segment, (start, index) in enumerate(pieces, start=1):
      here = slice(start, start + PIECES[index])
      tokens[row, here] = draw(vocab)[index]
      positions[row, here], segment_ids[row, here] = np.arange(PIECES[index]), segment
  return tokens, positions, segment_ids, starts


ROWS = {"right-padded": slice(0, 3), "left-padded": slice(3, 6), "packed": slice(6, 7)}


@functools.partial(jax.jit, static_argnums=0, compiler_options=FAST)
def step(graph, params, arrays, rows):
  tokens, positions, segment_ids = arrays

  def loss(params):
    logits = nnx.merge(graph, params)(tokens, positions, segment_ids)
    logs = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), tokens[:, 1:, None], axis=-1)[..., 0]
    within = (segment_ids[:, 1:] == segment_ids[:, :-1]) & (segment_ids[:, 1:] > 0)
    return -(logs * within * rows[:, None]).sum(), logits

  (_, logits), gradient = jax.value_and_grad(loss, has_aux=True)(params)
  return logits, gradient


def ours(model, arrays, rows):
  """(logits, gradient as a decoder) of the summed loss of the rows with weight 1."""
  graph, params = nnx.split(model, nnx.Param)
  logits, gradient = step(graph, params, arrays, rows)
  return logits, nnx.merge(graph, gradient)


def theirs_of(model, vocab):
  """(logits of each piece alone, gradient of the summed loss by name)."""
  model.zero_grad()
  alone, total = [], 0.0
  for piece in draw(vocab):
    x = torch.tensor(piece)[None]
    logits = model(x).logits[0]
    total = total + torch.nn.functional.cross_entropy(logits[:-1], x[0, 1:], reduction="sum")
    alone.append(logits.detach().numpy())
  total.backward()
  return alone, zoo.saved(model, lambda p: p.grad)


@pytest.fixture(scope="module")
def both(pair):
  theirs, _, model = pair
  return theirs, model, theirs_of(theirs, model.config.vocab_size)


@pytest.mark.parametrize("layout", ROWS)
def test_logits_and_gradients(both, layout):
  """A batch that transformers itself pads gives the same as its pieces alone; `test_their_padding` checks that."""
  _, model, (alone, gradients) = both
  *arrays, starts = batch(model.config.vocab_size)
  chosen = np.zeros(7, np.float32)
  chosen[ROWS[layout]] = 1
  logits, gradient = ours(model, arrays, chosen)
  for row, pieces in enumerate(starts):
    for start, index in pieces if chosen[row] else []:
      got = np.asarray(logits[row, start : start + PIECES[index]])
      np.testing.assert_allclose(got, alone[index], atol=1e-4, rtol=0, err_msg=f"row {row}, piece {index}")
  named = {name: read() for name, _, read in hf.tensors_of(gradient, np.dtype("float32"))}
  assert named.keys() == gradients.keys()
  for name, want in gradients.items():
    error = np.linalg.norm(named[name] - want) / np.linalg.norm(want)
    assert error <= 1e-3, (name, error)


def test_their_padding(both):
  """Our padded rows against transformers' own padded call, with its attention mask and positions."""
  theirs, model, _ = both
  tokens, positions, segment_ids, starts = batch(model.config.vocab_size)
  logits, _ = ours(model, [tokens, positions, segment_ids], np.ones(7, np.float32))
  for layout in ("right-padded", "left-padded"):
    rows = ROWS[layout]
    mask = torch.tensor(segment_ids[rows] > 0).long()
    want = zoo.logits(theirs, tokens[rows], attention_mask=mask, position_ids=torch.tensor(positions[rows]).long())
    real = segment_ids[rows] > 0
    np.testing.assert_allclose(np.asarray(logits[rows])[real], want[real], atol=1e-4, rtol=0)
  for start, index in starts[6]:  # a packed row is its pieces alone
    here = slice(start, start + PIECES[index])
    np.testing.assert_allclose(logits[6, here], logits[index, : PIECES[index]], atol=1e-5, rtol=0)


@jit
def forward(model, *arrays):
  return model(*arrays)


def test_bfloat16(both):
  """Weights and compute in bfloat16 on both sides: the mean KL divergence of the next token."""
  theirs, model, _ = both
  *arrays, _ = batch(model.config.vocab_size)
  graph, params = nnx.split(model.replace(dtype="bfloat16"), nnx.Param)
  narrow = nnx.merge(graph, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))
  logits = np.asarray(forward(narrow, *arrays))
  want = zoo.logits(theirs.to(torch.bfloat16), arrays[0][:3])
  theirs.to(torch.float32)
  real = arrays[2][:3] > 0
  p, q = (jax.nn.log_softmax(x[real]) for x in (want, logits[:3]))
  assert float((jnp.exp(p) * (p - q)).sum(-1).mean()) <= 1e-3


PLAIN = {
  "mistral-v0.1": {"sliding_window": None},
  "llama-3.1": zoo.rope(500.0),
  "llama-3.2": zoo.rope(500.0),
  "llama-linear": zoo.rope(10_000.0),
  "codellama": zoo.rope(10_000.0),
}


@pytest.mark.parametrize("name", PLAIN)
def test_the_switches_are_felt(name):
  """Guards the rest: the same weights without the window, the scaling or the theta give other logits on this batch."""
  with_switch, without = zoo.make(name), zoo.make(name, **PLAIN[name])
  tokens = batch(with_switch.config.vocab_size)[0][:3]
  difference = np.abs(zoo.logits(with_switch, tokens) - zoo.logits(without, tokens))
  assert difference.max() > 1e-2
