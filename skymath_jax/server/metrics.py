"""The text of `/metrics`, in Prometheus' format."""

from skymath_jax.engine.core import Core
from skymath_jax.server.driver import Driver

HELP = {
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
  "slots": "sequences that can be decoded at once",
  "slots_busy": "slots in use",
  "requests_waiting": "requests without a slot yet",
  "tokens_per_second": "response tokens a second, over the last ten seconds",
}


def metrics_text(driver: Driver, core: Core) -> str:
  """Totals as counters, the present state as gauges; every name begins with `skymath_`."""
  requests = {"accepted", "completed", "failed", "cancelled", "refused", "rejected"}
  totals = {f"requests_{n}" if n in requests else n: value for n, value in driver.counters.read().items()}
  totals |= {"prefill_tokens": core.prefixes.computed, "prefill_tokens_saved": core.prefixes.reused}
  gauges = {"slots": core.slots, "slots_busy": driver.busy, "requests_waiting": driver.waiting}
  gauges["tokens_per_second"] = round(driver.counters.tokens_per_second(), 1)
  lines = []
  for kind, values in (("counter", totals), ("gauge", gauges)):
    for name, value in values.items():
      full = f"skymath_{name}_total" if kind == "counter" else f"skymath_{name}"
      lines += [f"# HELP {full} {HELP[name]}", f"# TYPE {full} {kind}", f"{full} {value}"]
  return "\n".join(lines) + "\n"
