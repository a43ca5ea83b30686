"""Stage `export`: the last model as a Hugging Face folder, proven equal, with the benchmarks for other harnesses."""

from skymath_jax import models
from skymath_jax.convert.exporting import export_checkpoint
from skymath_jax.evaluation import lm_eval, template
from skymath_jax.models import training_prompt
from skymath_jax.recipe import evaluate, seeds
from skymath_jax.recipe.types import Run, Stage
from skymath_jax.records import Facts

MODEL = "stage2"
PROMPTS = 32  # seed problems on which logits are compared
NEW_TOKENS = 32  # greedy tokens that are compared after each prompt


def export(run: Run) -> Facts:
  """The stage-2 model as a Hugging Face folder, read back and compared before it counts as done.

  Raises:
    UserError: the exported model is not the same.
  """
  config, folder = run.config.export, run.workdir / "export" / MODEL
  path = evaluate.model_path(run, MODEL)
  trained = training_prompt.read(models.resolve(path))
  how = template.template(evaluate.template_of(run.config, trained), chat=trained.hash if trained else "")
  facts = export_checkpoint(
    path,
    folder,
    dtype=config.dtype,
    prompts=[how.render(problem.question) for problem in seeds.problems_of(run)[:PROMPTS]],
    new_tokens=NEW_TOKENS,
    overwrite=True,  # by an earlier run of this stage
  )
  tasks = {task: evaluate.problems_of(run.config, task) for task in evaluate.benchmarks_of(run.config)}
  lm_eval.write(folder, tasks, how, max_tokens=run.config.evaluation.max_tokens)
  return {"output": models.weights_hash(folder), **facts}


READS = ("rng_seed", "model", "training", "export")
STAGE = Stage("export", f"export/{MODEL}", export, needs=(f"checkpoints/{MODEL}", "seeds"), reads=READS)
