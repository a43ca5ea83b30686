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
