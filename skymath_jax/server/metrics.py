"""What a server says of itself, as Prometheus metrics; a registry of its own for each server."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from skymath_jax.server.driver import Driver

# name after `skymath_` → what it means
TOTALS = {
  "requests_accepted": "requests that were queued",
  "requests_completed": "requests answered whole",
  "requests_failed": "requests that met an error of the server",
  "requests_cancelled": "requests whose client went away or whose deadline passed",
  "requests_refused": "requests that found the queue full",
  "requests_rejected": "requests that were at fault",
  "prompt_tokens": "prompt tokens of completed requests",
  "completion_tokens": "response tokens of completed requests",
  "generated_tokens": "response tokens made",
  "prefill_seconds": "time in prefill calls",
  "generate_seconds": "time in decode calls",
  "generate_calls": "decode calls",
  "prefill_tokens": "prompt tokens run through the model",
  "prefill_tokens_saved": "prompt tokens that the prefix cache spared the model",
}
STATE = {
  "slots": "sequences that can be decoded at once",
  "slots_busy": "slots in use",
  "requests_waiting": "requests without a slot yet",
  "tokens_per_second": "response tokens a second, over the last ten seconds",
}


class DriverCollector(Collector):
  """Totals of a driver as counters, its present state as gauges."""

  def __init__(self, driver: Driver):
    self._driver = driver

  def collect(self) -> Iterator[Metric]:
    """The metrics as they are now."""
    driver, prefixes = self._driver, self._driver.engine.prefixes
    totals = driver.counters.read() | {"prefill_tokens": prefixes.computed, "prefill_tokens_saved": prefixes.reused}
    for name, meaning in TOTALS.items():
      yield CounterMetricFamily(f"skymath_{name}", meaning, value=totals[name.removeprefix("requests_")])
    state: dict[str, float] = {
      "slots": driver.slot_count,
      "slots_busy": driver.busy,
      "requests_waiting": driver.waiting,
      "tokens_per_second": round(driver.counters.tokens_per_second(), 1),
    }
    for name, meaning in STATE.items():
      yield GaugeMetricFamily(f"skymath_{name}", meaning, value=state[name])


def registry_of(driver: Driver) -> CollectorRegistry:
  """A registry with this driver's metrics and no others."""
  registry = CollectorRegistry()
  registry.register(DriverCollector(driver))
  return registry
