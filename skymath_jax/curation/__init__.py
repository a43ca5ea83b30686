"""From what the teacher wrote to a clean training set: checks, leaks, duplicates, diversity (Skywork 3.1, 4.3.7)."""

from skymath_jax.curation.coreset import select
from skymath_jax.curation.decontaminate import TestIndex, normalize
from skymath_jax.curation.run import (
  Curated,
  Dropped,
  Settings,
  curate,
  read_inputs,
  read_test_set,
  write,
  write_files,
)
from skymath_jax.curation.subsets import stratified_order, subset

__all__ = [
  "Curated",
  "Dropped",
  "Settings",
  "TestIndex",
  "curate",
  "normalize",
  "read_inputs",
  "read_test_set",
  "select",
  "stratified_order",
  "subset",
  "write",
  "write_files",
]
