"""The report of a run: `write(workdir)` leaves one self-contained `report.html`; `table` is the terminal's summary."""

from skymath_jax.report.html import write

__all__ = ["write"]
