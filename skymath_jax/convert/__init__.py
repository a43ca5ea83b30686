"""Hugging Face folder ⇄ checkpoint, each way with proof that the model is still the same."""
