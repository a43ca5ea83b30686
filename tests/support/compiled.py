"""A fixture that shares compiled programs: the same step is compiled by many tests, and by the processes they start."""

import os

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compiled_programs_are_shared(tmp_path_factory):
  """For all tests of a session that follow, and all workers of xdist, whose folders lie beside each other."""
  root = tmp_path_factory.getbasetemp()
  root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
  names = {
    "jax_compilation_cache_dir": os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(root / "compiled"),
    "jax_persistent_cache_min_compile_time_secs": 0.2,
    "jax_persistent_cache_min_entry_size_bytes": -1,
  }
  before = {name: getattr(jax.config, name) for name in names}
  environment = {name.upper(): os.environ.get(name.upper()) for name in names}
  for name, value in names.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)
  yield
  for name, value in before.items():
    jax.config.update(name, value)
    del os.environ[name.upper()]
  os.environ.update({name: value for name, value in environment.items() if value is not None})
