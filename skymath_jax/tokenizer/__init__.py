"""Text to token ids and back: one face over SentencePiece (`tokenizer.model`) and Hugging Face's `tokenizer.json`.

A prompt and its response are always encoded apart and then joined, in training and in serving alike, so that the border
between them is the same token border.
"""

from skymath_jax.tokenizer.base import SIDE_FILES, Tokenizer
from skymath_jax.tokenizer.folder import load
from skymath_jax.tokenizer.train import train_sentencepiece

__all__ = ["SIDE_FILES", "Tokenizer", "load", "train_sentencepiece"]
