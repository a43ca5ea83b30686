"""Which synthetic problems to start again from: embeddings of their text, k-center selection on the accelerator."""

from skymath_jax.coreset.embed import EMBEDDINGS, embed, select

__all__ = ["EMBEDDINGS", "embed", "select"]
