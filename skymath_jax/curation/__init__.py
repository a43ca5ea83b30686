"""From what the teacher wrote to a clean training set: checks, leaks, duplicates (Skywork section 4.3.7)."""

from skymath_jax.curation.decontaminate import TestIndex, exact_overlap, normalize
from skymath_jax.curation.inputs import read_inputs
from skymath_jax.curation.rules import require_filters
from skymath_jax.curation.run import Curated, Dropped, curate
from skymath_jax.curation.screen import Finding, Pair, Screen
from skymath_jax.curation.settings import Settings
from skymath_jax.curation.stream import Output, curate_files
from skymath_jax.curation.subsets import stratified_order, subset

__all__ = [
  "Curated", "Dropped", "Finding", "Output", "Pair", "Screen", "Settings", "TestIndex", "curate", "curate_files",
  "exact_overlap", "normalize", "read_inputs", "require_filters", "stratified_order", "subset",
]  # fmt: skip
