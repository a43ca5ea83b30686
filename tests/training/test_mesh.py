"""Eight fake devices in a process of their own: the number of devices is fixed when JAX starts."""

import pytest

from tests.support.processes import environment, python

PROGRAM = """
  import os, signal, sys
  from pathlib import Path
  from skymath_jax.models import orbax_folder
  from skymath_jax.sharding import make_mesh
  from skymath_jax import tokenizer
  from tests.support.doubles import decoder
  from tests.support.short_run import curve, train
  tokenizer.load = lambda folder: None
  out = Path(sys.argv[1])
  wide = make_mesh(data=2, fsdp=2, tensor=2)
  model = decoder()
  train(out / "one")
  train(out / "eight", model=model, mesh=wide)
  assert len(model.layers.q[...].sharding.device_set) == 8
  assert not model.layers.q[...].sharding.is_fully_replicated
  try:
    train(out / "moved", mesh=wide, evaluate=lambda _: os.kill(os.getpid(), signal.SIGTERM) or {})
    raise AssertionError("was not stopped")
  except SystemExit:
    pass
  train(out / "moved", mesh=make_mesh(fsdp=8))
  for name in ("eight", "moved"):
    for a, b in zip(curve(out / "one"), curve(out / name), strict=True):
      assert a[0] == b[0] and abs(a[1] - b[1]) < 1e-4 and abs(a[2] - b[2]) < 1e-3, (name, a, b)
  placed, _ = orbax_folder.load(out / "eight", mesh=wide)
  assert len(placed.head[...].sharding.device_set) == 8
  print("same")
"""


@pytest.mark.slow
def test_training_is_the_same_on_any_mesh_and_resumes_on_another(tmp_path):
  done = python(PROGRAM, tmp_path, env=environment(8), timeout=1800)
  assert done.stdout.strip().endswith("same"), done.stderr[-3000:]


ADAPTED = """
  import os, signal, sys
  from pathlib import Path
  import jax, numpy as np
  from skymath_jax.models import lora, orbax_folder
  from skymath_jax.sharding import make_mesh
  from tests.support.doubles import decoder
  from tests.support.short_run import curve, train
  out = Path(sys.argv[1])
  meshes = {"cube": make_mesh(data=2, fsdp=2, tensor=2), "shared": make_mesh(fsdp=8)}
  def adapted():
    return lora.attach(decoder(), lora.Adapters(rank=4, alpha=8.0, base="nf4"))
  train(out / "one", model=adapted())
  for name, mesh in meshes.items():
    model = adapted()
    train(out / name, model=model, mesh=mesh)
    held = model.layers.gate.weight.codes[...]
    assert not held.sharding.is_fully_replicated and held.dtype == np.uint8
    np.testing.assert_array_equal(held, adapted().layers.gate.weight.codes[...])
    assert not model.layers.gate.a[...].sharding.is_fully_replicated
  try:
    stop = lambda _: os.kill(os.getpid(), signal.SIGTERM) or {}
    train(out / "moved", model=adapted(), mesh=meshes["cube"], evaluate=stop)
    raise AssertionError("was not stopped")
  except SystemExit:
    pass
  train(out / "moved", model=adapted(), mesh=meshes["shared"])
  for name in ("cube", "shared", "moved"):
    for a, b in zip(curve(out / "one"), curve(out / name), strict=True):
      assert a[0] == b[0] and abs(a[1] - b[1]) < 1e-4 and abs(a[2] - b[2]) < 1e-3, (name, a, b)
  print("same")
"""


@pytest.mark.slow
def test_adapters_are_trained_the_same_on_any_mesh_and_resumed_on_another(tmp_path):
  done = python(ADAPTED, tmp_path, env=environment(8), timeout=1800)
  assert done.stdout.strip().endswith("same"), done.stderr[-3000:]


SHARED = """
  import re
  import jax, numpy as np
  from flax import nnx
  from skymath_jax import sharding
  from skymath_jax.training import step
  from tests.support.doubles import decoder
  VOCAB, ROWS, LENGTH = 96, 8, 24
  rng = np.random.default_rng(0)
  tokens = rng.integers(1, 93, (1, ROWS, LENGTH)).astype(np.int32)
  weights = (rng.random(tokens.shape) < 0.6).astype(np.float32)
  positions = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), tokens.shape)
  batch = {"tokens": tokens, "positions": positions, "segment_ids": np.ones_like(tokens), "loss_weights": weights}
  def compiled(mesh, chunk, **changes):
    with jax.set_mesh(mesh):
      graph, state = nnx.split(decoder(layers=1, **changes), nnx.Param)
      params = sharding.place(state, sharding.shardings_of(state, mesh))
      where = sharding.named(mesh, None, "batch", "length", shape=tokens.shape)
      placed = {key: jax.device_put(value, where) for key, value in batch.items()}
      run = jax.jit(step.loss_and_gradient, static_argnames=("graph", "loss_chunk"))
      program = run.lower(params, placed, graph=graph, loss_chunk=chunk).compile()
      value, gradient = program(params, placed)
      return program.as_text(), (float(value), jax.tree.map(np.asarray, gradient))
  def moved(text):  # whole tables that arrive somewhere
    return len(re.findall(r"= \\w+\\[96,32\\]\\S* all-(?:gather|reduce)\\(", text))
  one = sharding.make_mesh(fsdp=1, devices=jax.devices()[:1])
  # `chunk` is of a device: with 4 all devices' tokens are fewer than the vocabulary, with 64 they are more
  wide, cube = dict(fsdp=8), dict(data=2, fsdp=2, tensor=2)
  for sizes, tied, chunk, vocab in [(wide, False, 4, VOCAB), (wide, False, 64, VOCAB), (cube, True, 4, 93)]:
    changes = dict(tie_embeddings=tied, vocab_size=vocab)
    _, (value, gradient) = compiled(one, 64, **changes)
    text, (there, slopes) = compiled(sharding.make_mesh(**sizes), chunk, **changes)
    assert abs(there - value) < 1e-5, (sizes, chunk, there, value)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), gradient, slopes)
    if not tied:
      assert (moved(text) == 0) == (chunk == 4), (chunk, moved(text))
  print("same")
"""


def test_a_shared_vocabulary_gives_the_same_gradients_and_moves_no_table():
  done = python(SHARED, env=environment(8))
  assert done.stdout.strip().endswith("same"), done.stderr[-3000:]
