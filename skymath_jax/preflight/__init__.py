"""Does a recipe fit a machine that is not here? Compiles the very train step for it, or says why it cannot.

  preflight.check(decoder_config, settings, {"data": 1, "fsdp": -1, "tensor": 1}, hardware.find("v5e-16"))
  → Report(fits=True, peak_bytes_per_chip=…, breakdown={…}, estimated_step_seconds=…, advice=[…])

For TPU slices the numbers are the compiler's; for GPUs they are estimates from the shapes, and say so.
"""

from skymath_jax.preflight.check import Report, check

__all__ = ["Report", "check"]
