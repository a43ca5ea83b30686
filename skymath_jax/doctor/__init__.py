"""What is wrong with a model folder or a data set before anybody trains on it, serves it or publishes it."""

from skymath_jax.doctor.data import audit_data
from skymath_jax.doctor.finding import SEVERITIES, Finding
from skymath_jax.doctor.model import audit_model, audit_text

__all__ = ["SEVERITIES", "Finding", "audit_data", "audit_model", "audit_text"]
