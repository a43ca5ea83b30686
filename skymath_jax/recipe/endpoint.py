"""Evaluates what answers behind an OpenAI-compatible address: no checkpoint, the same questions, grader and files.

A workdir is a purse: what its evaluations have cost counts against `teacher.cost_ceiling`, resumed runs included.
"""

import asyncio
import dataclasses
import re

from etils import epath

from skymath_jax import files, records
from skymath_jax.config import Experiment
from skymath_jax.evaluation import PREDICTIONS, folder_name
from skymath_jax.evaluation import template as template_lib
from skymath_jax.evaluation.evaluate import EARLIER, evaluate_async
from skymath_jax.generation.ledger import Ledger
from skymath_jax.generation.openai import OpenAIGenerator
from skymath_jax.recipe import evaluate
from skymath_jax.recipe.teacher import endpoint_of
from skymath_jax.records import Facts

CHAT = "endpoint"  # whatever template the endpoint has


def evaluate_endpoint(config: Experiment, workdir: epath.Path, url: str, model: str) -> dict[str, Facts]:
  """Evaluates `model` at `url` on the benchmarks of the config, the files of each in `evaluation/MODEL/NAME`.

  Raises:
    UserError: benchmarks that are not at hand, an endpoint that refuses, or a cost ceiling that is reached.
  """
  found = evaluate.at_hand(config, evaluate.benchmarks_of(config))
  root = workdir / "evaluation" / re.sub(r"[^\w.+-]", "_", model)
  text = evaluate.template_of(config, None)
  identity = CHAT if template_lib.is_chat(text) else ""
  client = endpoint_of(dataclasses.replace(config.teacher, base_url=url, model=model), chat=bool(identity))
  client.meter.ledger = Ledger(workdir / "evaluation" / "unanswered.json", client.model_id)
  client.meter.spent = _spent(client, workdir / "evaluation")

  async def run() -> dict[str, Facts]:
    summaries = {}
    try:
      for name, problems in found.items():
        options = evaluate.options_of(config, text, identity, name, known={"endpoint": url})
        summaries[name] = await evaluate_async(client, problems, root / folder_name(name), name=name, **options)
    finally:
      await client.close()
    return summaries

  return asyncio.run(run())


def _spent(client: OpenAIGenerator, folder: epath.Path) -> float:
  """Money that all responses below `folder`, and those that were lost, have cost, by the prices of now."""
  paths = [path for name in (PREDICTIONS, EARLIER) for path in files.matching(folder, f"*/*/{name}")]
  rows = {(path.parent, row["request"]): row for path in paths for _, row in records.read_lines(path)}
  prompt, completion = (sum(row[key] for row in rows.values()) for key in ("prompt_tokens", "tokens"))
  lost = client.meter.ledger.lost if client.meter.ledger is not None else (0, 0)
  return client.meter.limits.cost(prompt + lost[0], completion + lost[1])
