"""The model card of an export: what the model is, what it learned from, how well it does, and how to make it again.

It is read off the files that a run left around the checkpoint; a checkpoint that was only imported gets a short one.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

import skymath_jax
from skymath_jax import files, hub
from skymath_jax.models import DecoderConfig, orbax_folder
from skymath_jax.rows.presets import PRESETS
from skymath_jax.sft import pairs
from skymath_jax.tokenizer import Tokenizer

PAPER = "Skywork-Math (arXiv 2407.08348)"
LICENCES = {  # words at the beginning of a licence → its name on hubs
  "Apache License": "apache-2.0",
  "MIT License": "mit",
  "LLAMA 2 COMMUNITY": "llama2",
  "META LLAMA 3": "llama3",
  "LLAMA 3.1": "llama3.1",
  "LLAMA 3.2": "llama3.2",
}


def was_trained(folder: epath.Path) -> bool:
  """Whether the folder is a checkpoint of our trainer, not an imported or a Hugging Face folder."""
  return orbax_folder.is_checkpoint(folder) and bool(_meta(folder)["run"])


def text(folder: epath.Path, config: DecoderConfig, tokenizer: Tokenizer, dtype: str, *, name: str = "") -> str:
  """The card in Markdown, with the header that model hubs read, of the checkpoint in `folder`.

  Args:
    folder: of the checkpoint.
    config: of its decoder.
    tokenizer: as it is exported.
    dtype: as it is exported.
    name: ORG/NAME where it is pushed to; "" = as the run is called.
  """
  trained, workdir = was_trained(folder), folder.parent.parent
  called = name or _name(folder)
  parts = [_header(folder, workdir, trained, called), f"# {called}\n", _what(folder, config, dtype, trained)]
  parts.append(_asking(folder, tokenizer, trained, name))
  if trained:
    parts += [_data(folder, workdir), _training(folder), _evaluation(workdir), _recipe(workdir)]
  return "\n".join(part for part in parts if part)


def of_adapter(base: str) -> str:
  """The card of adapters in PEFT's format."""
  lines = ["base_model: " + base, "library_name: peft", "pipeline_tag: text-generation", "tags:", "- lora", "- math"]
  about = f"LoRA adapters for `{base}`, trained with skymath_jax {skymath_jax.__version__}."
  return "\n".join(["---", *lines, "---", "", about, ""])


def _meta(folder: epath.Path) -> dict[str, Any]:
  return orbax_folder.read_meta(folder, orbax_folder.committed(folder)[0])


def _name(folder: epath.Path) -> str:
  path = folder.parent.parent / "config.json"
  if folder.parent.name == "checkpoints" and path.exists():
    return f"{files.read_json(path).get('name', '')} {folder.name}".strip()
  return folder.name


def _header(folder: epath.Path, workdir: epath.Path, trained: bool, name: str) -> str:
  """What hubs read. JSON values are YAML, so no text can break out of its line."""
  fields: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
  if licence := _licence(folder):
    fields["license"] = licence
  if trained:
    base = _resolved(workdir)["model"]["path"]
    fields |= {"base_model": base.partition("@")[0]} if hub.is_id(base) else {}
    repositories = [repository for _, _, repository in _sources(workdir) if repository]
    fields |= {"datasets": repositories} if repositories else {}
  fields["tags"] = ["math", "skymath_jax", *(["skywork-math"] if trained else [])]
  if trained and (results := [_result(found) for _, found in _summaries(workdir, folder.name)]):
    fields["model-index"] = [{"name": name, "results": results}]
  lines = (f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in fields.items())
  return "\n".join(["---", *lines, "---", ""])


def _licence(folder: epath.Path) -> str:
  """By the file that came with the model; "" where none did, "other" where its words are not known."""
  found = [path for place in (folder, folder / "tokenizer") for path in files.matching(place, "LICENSE*")]
  if not found:
    return ""
  start = found[0].read_text()[:2000]
  return next((name for words, name in LICENCES.items() if words.lower() in start.lower()), "other")


def _result(found: dict[str, Any]) -> dict[str, Any]:
  """One entry of a model-index."""
  accuracy = found["accuracy"]
  low, high = (round(100 * bound, 1) for bound in accuracy["ci95"])
  metric = {"type": "accuracy", "value": round(100 * accuracy["all"], 2)}
  metric["name"] = f"accuracy, zero-shot, {accuracy['n']} problems, 95 % interval {low}-{high}"
  task = {"type": "text-generation", "name": "mathematics"}
  return {"task": task, "dataset": {"type": found["name"], "name": found["name"]}, "metrics": [metric]}


def _summaries(workdir: epath.Path, model: str = "*") -> Iterator[tuple[str, dict[str, Any]]]:
  """(model, summary) of each evaluation of the run: the first benchmark's, and those of further ones."""
  for pattern in (f"evaluation/{model}/summary.json", f"evaluation/{model}/*/summary.json"):
    for path in files.matching(workdir, pattern):
      yield path.relative_to(workdir).parts[1], files.read_json(path)


def _resolved(workdir: epath.Path) -> dict[str, Any]:
  """The run's resolved config; without one nothing is known of base and data."""
  path = workdir / "config.json"
  found: dict[str, Any] = files.read_json(path) if path.exists() else {"model": {"path": ""}, "training": {"data": ""}}
  return found


def _sources(workdir: epath.Path) -> Iterator[tuple[str, float, str]]:
  """(source, weight, its repository on the hub or "") of what `training.data` named."""
  if data := _resolved(workdir)["training"]["data"]:
    for source, weight in pairs.split(data).items():
      bare = source.partition(":")[0].partition("@")[0]
      there = epath.Path(source.partition(":")[0]).expanduser().exists()
      preset = None if there else PRESETS.get(bare)
      repository = preset.repository if preset else "/".join(bare.split("/")[:2]) if hub.is_id(bare) else ""
      yield source, weight, "" if there else repository


def _asking(folder: epath.Path, tokenizer: Tokenizer, trained: bool, name: str) -> str:
  """How to prompt it."""
  if tokenizer.chat_template is None:
    return "## How to ask it\n\nIt has no chat template: give it the beginning of a text.\n"
  ends = ", ".join(f"`{tokenizer.token(end)}`" for end in tokenizer.end_ids)
  frame = f", in the template of its training (`{_meta(folder)['run']['template']}`)" if trained else ""
  return f"""## How to ask it

By chat messages{frame}, greedy. An answer ends with {ends}.

```python
import transformers

ask = transformers.pipeline("text-generation", "{name or "FOLDER"}")
ask([{{"role": "user", "content": "What is 12 + 3?"}}], max_new_tokens=1024, do_sample=False)
```
"""


def _what(folder: epath.Path, config: DecoderConfig, dtype: str, trained: bool) -> str:
  own = trained and bool(list(_sources(folder.parent.parent)))
  origin = (
    f"Fine-tuned {'on the data below' if own else f'on synthetic math problems by the recipe of {PAPER}'}"
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
  for source, weight, repository in _sources(workdir):
    preset = next((preset for preset in PRESETS.values() if preset.repository == repository), None)
    known = f": {preset.citation}; licence {preset.licence}" if preset else ""
    parts.append(f"- `{source}`{known}" + (f"; each row {weight:g} times an epoch" if weight != 1 else ""))
  parts += ["" for _ in parts[:1]]
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
  if run["settings"].get("lora_rank"):
    rows += [(key, _shown(run["settings"][key])) for key in ("lora_rank", "lora_alpha")]
  rows += [("data fingerprint", f"`{run['data'][:16]}`"), ("prompt template", f"`{run['template']}`")]
  return f"## Training\n\n{_table(('', ''), rows)}"


def _evaluation(workdir: epath.Path) -> str:
  rows = []
  for model, found in _summaries(workdir):
    accuracy = found["accuracy"]
    low, high = accuracy["ci95"]
    share = f"{accuracy['all']:.1%} [{low:.1%}–{high:.1%}]"
    rows.append((model, found["name"], share, str(accuracy["n"]), found["mode"]))
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
