"""The contract's name of the engine behind JetStream's interface."""

from skymath_jax.server.jetstream import DecoderEngine

__all__ = ["DecoderEngine"]
