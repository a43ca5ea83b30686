"""The prompt that a model of ours was trained in: a checkpoint's run says it, and a file in whatever it is exported
or imported to.

Asked in another prompt, a model seems worse than it is, or answers nothing at all.
"""

import dataclasses

from etils import epath

from skymath_jax import files, foreign
from skymath_jax.errors import UserError
from skymath_jax.models import orbax_folder

FILE = "training_prompt.json"


@dataclasses.dataclass(frozen=True)
class TrainingPrompt:
  """`template` by name (`training.template`), and the `hash` of the text around queries and answers."""

  template: str
  hash: str


def read(folder: epath.Path) -> TrainingPrompt | None:
  """The prompt that the model in a folder was trained in; None where that is not known, as of a foreign model.

  Raises:
    UserError: the folder's file says something else.
  """
  if (folder / FILE).exists():
    found = foreign.read_object(folder / FILE)
    if not all(isinstance(found.get(key), str) for key in ("template", "hash")):
      remedy = "remove the file: the model is then asked as evaluation.template says"
      raise UserError("no texts `template` and `hash`", where=folder / FILE, remedy=remedy)
    return TrainingPrompt(found["template"], found["hash"])
  steps = orbax_folder.committed(folder)
  run = orbax_folder.read_meta(folder, steps[0])["run"] if steps else {}  # empty where a model was imported
  return TrainingPrompt(run["settings"]["template"], run["template"]) if run else None


def write(folder: epath.Path, known: TrainingPrompt | None) -> None:
  """Writes what is known of a model into the folder that it is exported or imported to."""
  if known is not None:
    files.write_json(folder / FILE, dataclasses.asdict(known))
