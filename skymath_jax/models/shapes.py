"""The sizes of models by the name of their folder, for what needs no weights: preflight and benchmarks.

Facts from the models' own config.json. A folder that is at hand is read instead (`describe`).
"""

from etils import epath

from skymath_jax import files
from skymath_jax.errors import UserError
from skymath_jax.models.config import DecoderConfig
from skymath_jax.models.families import config_from_hf

_7B = {"embed": 4096, "layers": 32, "heads": 32, "kv_heads": 32, "head_dim": 128}
SHAPES = {
  "Llama-2-7b-hf": DecoderConfig(**_7B, vocab_size=32_000, mlp=11_008),
  "Mistral-7B-v0.1": DecoderConfig(
    **{**_7B, "kv_heads": 8}, vocab_size=32_000, mlp=14_336, window=4096, max_positions=32_768, family="mistral"
  ),
  "deepseek-math-7b-base": DecoderConfig(**{**_7B, "layers": 30}, vocab_size=102_400, mlp=11_008, norm_eps=1e-6),
}


def describe(path: str) -> DecoderConfig:
  """The sizes of the model at `path`: from its config.json if it is there, else by the folder's name.

  Raises:
    UserError: neither is known.
  """
  config = epath.Path(path) / "config.json"
  if config.exists():
    return config_from_hf(files.read_json(config), where=config)
  name = path.rstrip("/").rsplit("/", 1)[-1]
  if name not in SHAPES:
    raise UserError(
      f"no config.json there, and {name!r} is not among the known shapes",
      where=f"config.model.path = {path}",
      remedy=f"put the model's config.json there, or use one of {', '.join(SHAPES)}",
    )
  return SHAPES[name]
