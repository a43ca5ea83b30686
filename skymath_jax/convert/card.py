"""The model card of an export: what the model is, what it learned from, how well it does, and how to make it again.

It is read off the files that a run left around the checkpoint; a checkpoint that was only imported gets a short one.
"""

from collections.abc import Sequence
from typing import Any

from etils import epath

import skymath_jax
from skymath_jax import files
from skymath_jax.models import DecoderConfig, orbax_folder

PAPER = "Skywork-Math (arXiv 2407.08348)"


def was_trained(folder: epath.Path) -> bool:
  """Whether the folder is a checkpoint of our trainer, not an imported or a Hugging Face folder."""
  return orbax_folder.is_checkpoint(folder) and bool(_meta(folder)["run"])


def text(folder: epath.Path, config: DecoderConfig, dtype: str) -> str:
  """The card in Markdown, with the header that model hubs read, of the checkpoint in `folder`."""
  trained = was_trained(folder)
  parts = [_header(trained), f"# {_name(folder)}\n", _what(folder, config, dtype, trained)]
  if trained:
    workdir = folder.parent.parent
    parts += [_data(folder, workdir), _training(folder), _evaluation(workdir), _recipe(workdir)]
  return "\n".join(part for part in parts if part)


def _meta(folder: epath.Path) -> dict[str, Any]:
  return orbax_folder.read_meta(folder, orbax_folder.committed(folder)[0])


def _name(folder: epath.Path) -> str:
  path = folder.parent.parent / "config.json"
  if folder.parent.name == "checkpoints" and path.exists():
    return f"{files.read_json(path).get('name', '')} {folder.name}".strip()
  return folder.name


def _header(trained: bool) -> str:
  tags = ["math", "skymath_jax", *(["skywork-math"] if trained else [])]
  lines = ["library_name: transformers", "pipeline_tag: text-generation", "tags:", *(f"- {tag}" for tag in tags)]
  return "\n".join(["---", *lines, "---", ""])


def _what(folder: epath.Path, config: DecoderConfig, dtype: str, trained: bool) -> str:
  origin = (
    f"Fine-tuned on synthetic math problems by the recipe of {PAPER}"
    if trained
    else "Converted without training; the license and the card of the original model hold"
  )
  weights = orbax_folder.weights_hash(folder) if orbax_folder.is_checkpoint(folder) else None
  held = f"`{config.family}` architecture, {config.parameters:,} parameters in {dtype}" + (
    f", weights `{weights}`" if weights else ""
  )
  return f"{origin}, with skymath_jax {skymath_jax.__version__}.\n\n{held}.\n"


def _data(folder: epath.Path, workdir: epath.Path) -> str:
  """The training sets up to this stage, which goes on from the one before."""
  parts = []
  for path in files.matching(workdir, "sft/*/summary.json"):
    stage = path.parent.name
    if stage <= folder.name:
      summary = files.read_json(path)
      rows = [(method, f"{count:,}") for method, count in summary["by_method"].items()]
      about = f"{summary['kept']:,} pairs of query and response, {summary['distinct_queries']:,} distinct queries"
      parts.append(f"{stage}: {about}, all made by a language model.\n\n{_table(('method', 'pairs'), rows)}")
  return "\n".join(["## Data\n", *parts]) if parts else ""


def _training(folder: epath.Path) -> str:
  meta = _meta(folder)
  run, facts = meta["run"], meta["facts"]
  rows = [(key, _shown(facts[key])) for key in ("steps", "examples", "tokens", "loss_tokens", "loss") if key in facts]
  rows += [(key, _shown(run["settings"][key])) for key in ("learning_rate", "epochs") if key in run["settings"]]
  rows += [("data fingerprint", f"`{run['data'][:16]}`"), ("prompt template", f"`{run['template']}`")]
  return f"## Training\n\n{_table(('', ''), rows)}"


def _evaluation(workdir: epath.Path) -> str:
  rows = []
  for path in files.matching(workdir, "evaluation/*/summary.json"):
    found = files.read_json(path)
    accuracy = found["accuracy"]
    low, high = accuracy["ci95"]
    share = f"{accuracy['all']:.1%} [{low:.1%}–{high:.1%}]"
    rows.append((path.parent.name, found["name"], share, str(accuracy["n"]), found["mode"]))
  if not rows:
    return ""
  heads = ("model", "benchmark", "accuracy [95 %]", "problems", "grader")
  return f"## Evaluation\n\nZero-shot, chain of thought.\n\n{_table(heads, rows)}"


def _recipe(workdir: epath.Path) -> str:
  path = workdir / "config_hash"
  if not path.exists():
    return ""
  base = files.read_json(workdir / "config.json")["model"]["path"]
  start = f"Training began with `{base}`." if base else "Training began with random weights."
  made = f"{start} Config hash `{path.read_text().strip()}`; the resolved config is the run's config.json."
  return f"## How it was made\n\n{made}\n"


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
  lines = [heads, ("---",) * len(heads), *rows]
  return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shown(value: Any) -> str:
  return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
