"""Supervised fine-tuning: packed batches, one exact loss, one step, one loop that can be killed at any time."""

from skymath_jax.training.loop import train
from skymath_jax.training.step import TrainState, train_step

__all__ = ["TrainState", "train", "train_step"]
