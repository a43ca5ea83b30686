"""What a server says of itself, as Prometheus metrics; a registry of its own for each server."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from skymath_jax.server.driver import Driver

# name after `skymath_` → what it means; the value is the counter of that name, without `requests_`
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
}


class DriverCollector(Collector):
  """Totals of a driver as counters, its present state as gauges; every name begins with `skymath_`."""

  def __init__(self, driver: Driver):
    self._driver = driver

  def collect(self) -> Iterator[Metric]:
    """The metrics as they are now."""
    driver, prefixes = self._driver, self._driver.engine.prefixes
    totals = driver.counters.read()
    for name, meaning in TOTALS.items():
      yield _counter(name, meaning, totals[name.removeprefix("requests_")])
    yield _counter("prefill_tokens", "prompt tokens run through the model", prefixes.computed)
    yield _counter("prefill_tokens_saved", "prompt tokens that the prefix cache spared the model", prefixes.reused)
    yield _gauge("slots", "sequences that can be decoded at once", driver.slot_count)
    yield _gauge("slots_busy", "slots in use", driver.busy)
    yield _gauge("requests_waiting", "requests without a slot yet", driver.waiting)
    rate = round(driver.counters.tokens_per_second(), 1)
    yield _gauge("tokens_per_second", "response tokens a second, over the last ten seconds", rate)


def registry_of(driver: Driver) -> CollectorRegistry:
  """A registry with this driver's metrics and no others."""
  registry = CollectorRegistry()
  registry.register(DriverCollector(driver))
  return registry


def _counter(name: str, meaning: str, value: float) -> Metric:
  return CounterMetricFamily(f"skymath_{name}", meaning, value=value)


def _gauge(name: str, meaning: str, value: float) -> Metric:
  return GaugeMetricFamily(f"skymath_{name}", meaning, value=value)
