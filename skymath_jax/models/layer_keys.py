"""How a config.json says what its layers are: windows and rotary angles, for all families alike.

Reading makes one `LayerKind` for each layer; where they are equal they become the config's own fields, else its
`pattern`, the shortest that repeats. Writing goes the other way.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skymath_jax.errors import UserError
from skymath_jax.models.config import DecoderConfig, LayerKind, RopeScaling

HINT = "this decoder computes something else; use another checkpoint or add the case to models/families.py"
FULL, SLIDING = "full_attention", "sliding_attention"
MAX_LAYERS = 1000  # the deepest that are known have a few hundred
# (the config, how many layers, the window) -> the type of each layer
Types = Callable[[Mapping[str, Any], int, int | None], Sequence[str]]


def all_but_every(default: int, key: str = "") -> Types:
  """Layers with the window, but for each n-th; `key`, where a config has it, gives another n."""

  def types(hf: Mapping[str, Any], layers: int, window: int | None) -> list[str]:
    every = hf.get(key) or default
    return [FULL if (i + 1) % every == 0 else SLIDING for i in range(layers)]

  return types


def all_if_any(hf: Mapping[str, Any], layers: int, window: int | None) -> list[str]:
  """All layers have the window, if there is one."""
  return [FULL if window is None else SLIDING] * layers


def from_max_window_layers(hf: Mapping[str, Any], layers: int, window: int | None) -> list[str]:
  """The first `max_window_layers` see everything (Qwen), others have the window, if there is one."""
  first = hf.get("max_window_layers", 28)
  return [FULL if window is None or i < first else SLIDING for i in range(layers)]


def without_rotary(hf: Mapping[str, Any], layers: int, window: int | None) -> list[str]:
  """Layers without rotary positions have the window, if there is one (SmolLM3)."""
  return [FULL if window is None or turns else SLIDING for turns in _turning(hf, layers)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerKeys:
  """What a family's config says of layers, beside the rotary keys that all have.

  Args:
    windowed: it has `sliding_window`, with `window` for an absent key; null is no window.
    asks: ... which counts only where `use_sliding_window` is true.
    types: of the layers where `layer_types` is absent; None = the family does not read that key, all are alike.
    nested: `rope_parameters` has an entry for each type of layer.
    theta: of the angles where no key gives it; `local_theta`, of layers with the window where `nested`.
    original: positions of pre-training where `original_max_position_embeddings` is no key of the config's own; None =
      what the rotary keys say, or max_position_embeddings.
    skips_rotary: `no_rope_layers` names layers without rotary positions.
    partial: `partial_rotary_factor` is read.
    more: rotary keys of this family alone, and our fields.
    aliases: types of scaling that mean another one here.
    keys: further ones that `types` reads.
  """

  windowed: bool = False
  window: int | None = None
  asks: bool = False
  types: Types | None = None
  nested: bool = False
  theta: float = 10_000.0
  local_theta: float = 10_000.0
  original: int | None = None
  skips_rotary: bool = False
  partial: bool = False
  more: Mapping[str, str] = dataclasses.field(default_factory=dict)
  aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
  keys: tuple[str, ...] = ()

  @property
  def known(self) -> set[str]:
    """All that it reads, but for the keys that any config has."""
    conditional = {
      "use_sliding_window": self.asks,
      "no_rope_layers": self.skips_rotary,
      "no_rope_layer_interval": self.skips_rotary,
      "rope_local_base_freq": self.nested,
      "partial_rotary_factor": self.partial,
      "original_max_position_embeddings": True,
    }
    return {key for key, read in conditional.items() if read} | set(self.keys)


# rope type -> HF key -> field of RopeScaling; those of the second table may be absent
NEEDED: dict[str, dict[str, str]] = {
  "default": {},
  "linear": {"factor": "factor"},
  "dynamic": {"factor": "factor"},
  "llama3": {
    "factor": "factor",
    "low_freq_factor": "low_frequency_factor",
    "high_freq_factor": "high_frequency_factor",
  },
  "yarn": {"factor": "factor"},
  "longrope": {"short_factor": "short_factors", "long_factor": "long_factors"},
}
OPTIONAL = {
  "yarn": {
    "attention_factor": "magnitude",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "truncate": "truncate",
    "mscale": "mscale",
    "mscale_all_dim": "mscale_all_dim",
  },
  "longrope": {"factor": "factor", "attention_factor": "magnitude"},
}
ORIGINAL = "original_max_position_embeddings"  # read of these types, where it is by default max_position_embeddings
HAVE_ORIGINAL = ("llama3", "yarn", "longrope")


def layers_from_hf(hf: Mapping[str, Any], keys: LayerKeys, *, where: object = None) -> dict[str, Any]:
  """The fields of `DecoderConfig` that say what layers are.

  Raises:
    UserError: a type of layer or of scaling that is not known, or that lacks something.
  """
  layers, window = hf["num_hidden_layers"], _window(hf, keys)
  if not 1 <= layers <= MAX_LAYERS:  # a list is made of them, before any weight is looked at
    raise UserError(f"{layers} layers, where 1 to {MAX_LAYERS:,} are taken", where=where, remedy=HINT)
  types = _types(hf, keys, layers, window, where)
  ropes = {kind: _rope(hf, keys, kind, where) for kind in dict.fromkeys(types)}
  turning = _turning(hf, layers) if keys.skips_rotary else [True] * layers
  if len(turning) < layers or len(types) != layers:
    raise UserError(
      f"{len(types)} layer_types and {len(turning)} no_rope_layers for {layers} layers", where=where, remedy=HINT
    )
  kinds = []
  for kind, turns in zip(types, turning, strict=False):
    own: dict[str, Any] = {"window": window if kind == SLIDING else None}
    kinds.append(LayerKind(**own, **ropes[kind]) if turns else LayerKind(**own, rotary=0.0))
  period = next(n for n in range(1, layers + 1) if all(kinds[i] == kinds[i % n] for i in range(layers)))
  if period > 1:
    return {"pattern": tuple(kinds[:period])}
  return {field.name: getattr(kinds[0], field.name) for field in dataclasses.fields(LayerKind)}


def _window(hf: Mapping[str, Any], keys: LayerKeys) -> int | None:
  if not keys.windowed or (keys.asks and not hf.get("use_sliding_window")):
    return None
  window: int | None = hf["sliding_window"] if "sliding_window" in hf else keys.window
  return window


def _types(hf: Mapping[str, Any], keys: LayerKeys, layers: int, window: int | None, where: object) -> Sequence[str]:
  types = (keys.types or all_if_any)(hf, layers, window)
  if given := hf.get("layer_types"):
    if keys.types is None and set(given) - set(types):
      raise UserError(f"layer_types {sorted(set(given))} are not supported", where=where, remedy=HINT)
    types = given
  if set(types) - {FULL, SLIDING} or (SLIDING in types and window is None):
    what = f"layer_types {sorted(set(types))} with sliding_window = {window} are not supported"
    raise UserError(what, where=where, remedy=HINT)
  return types


def _turning(hf: Mapping[str, Any], layers: int) -> Sequence[bool]:
  """Whether each layer has rotary positions, for families some of whose layers have none."""
  if (given := hf.get("no_rope_layers")) is not None:
    return [bool(turns) for turns in given]
  every = hf.get("no_rope_layer_interval", 4)
  return [(i + 1) % every != 0 for i in range(layers)]


def _rope(hf: Mapping[str, Any], keys: LayerKeys, layer_type: str, where: object) -> dict[str, Any]:
  """The rotary fields of a layer of that type, from transformers 5's `rope_parameters`, else from the older keys."""
  given = hf.get("rope_parameters") or {}
  nested = {kind: given[kind] for kind in (FULL, SLIDING) if kind in given}
  theta, parameters = hf.get("rope_theta"), {**(hf.get("rope_scaling") or {})}
  if bool(nested) != keys.nested and given:
    what = "rope_parameters are by layer type" if nested else "rope_parameters are not by layer type"
    raise UserError(f"{what}, which this family does not read", where=where, remedy=HINT)
  if keys.nested:
    if layer_type == SLIDING:
      theta, parameters = hf.get("rope_local_base_freq"), {}
    parameters |= nested.get(layer_type) or {}
  else:
    parameters |= given
  default = keys.local_theta if keys.nested and layer_type == SLIDING else keys.theta
  theta = float(parameters.pop("rope_theta", theta) or default)
  kind = parameters.pop("rope_type", parameters.pop("type", "default"))
  parameters.pop("type", None)
  share = parameters.pop("partial_rotary_factor", None) or hf.get("partial_rotary_factor") or 1.0
  if share != 1.0 and not keys.partial:
    raise UserError(f"partial_rotary_factor = {share!r} is not supported", where=where, remedy=HINT)
  scaling = _scaling(hf, keys, keys.aliases.get(kind, kind), parameters, where)
  return {"rotary": float(share), "rope_theta": theta, "rope_scaling": scaling}


def _scaling(
  hf: Mapping[str, Any], keys: LayerKeys, kind: str, parameters: Mapping[str, Any], where: object
) -> RopeScaling | None:
  if kind not in NEEDED:
    raise UserError(
      f"rope type {kind!r} is not supported", where=where, remedy=f"known are {', '.join(NEEDED)}; {HINT}"
    )
  if kind == "default":
    return None
  optional = {**OPTIONAL.get(kind, {}), **keys.more}
  original = parameters.get(ORIGINAL, hf["max_position_embeddings"])
  given = {key: value for key, value in parameters.items() if key != ORIGINAL and value is not None}
  if missing := NEEDED[kind].keys() - given.keys():
    raise UserError(f"rope type {kind!r} lacks {sorted(missing)}", where=where, remedy=HINT)
  if extra := given.keys() - NEEDED[kind].keys() - optional.keys() - IGNORED:
    raise UserError(f"rope type {kind!r} has unknown {sorted(extra)}", where=where, remedy=HINT)
  fields = {ours: given[key] for key, ours in {**NEEDED[kind], **optional}.items() if key in given}
  if kind in HAVE_ORIGINAL:
    fields["original_positions"] = hf.get(ORIGINAL) or keys.original or original
  return RopeScaling(kind=kind, **fields)


IGNORED = {"max_position_embeddings"}  # which Ministral 3 repeats here


def layers_to_hf(config: DecoderConfig, keys: LayerKeys) -> dict[str, Any]:
  """The keys of a config.json that say what the layers of this decoder are.

  Transformers 4 reads `rope_theta` and `rope_scaling`, 5 `rope_parameters`. What the family has no key for is left out;
  `families.config_to_hf` finds that by reading again what it has written.
  """
  kinds = config.kinds
  written: dict[str, Any] = {}
  windows = [kind.window for kind in kinds if kind.window is not None]
  if keys.windowed and not (keys.asks and not windows):
    unused = None if keys.types is None else keys.window  # transformers makes a mask of it all the same
    written["sliding_window"] = windows[0] if windows else unused
  if keys.asks:
    written["use_sliding_window"] = bool(windows)
  types = [FULL if kind.window is None else SLIDING for kind in kinds]
  if keys.types is not None and not (keys.asks and not windows):
    written["layer_types"] = types
  if keys.skips_rotary:
    written["no_rope_layers"] = [int(kind.rotary > 0) for kind in kinds]
  turning = [(name, kind) for name, kind in zip(types, kinds, strict=True) if kind.rotary > 0]
  by_type = {name: kind for name, kind in reversed(turning)}  # the first of each
  main = by_type.get(FULL, next(iter(by_type.values()), LayerKind()))
  scaling = _scaling_to_hf(main, keys)
  if scaling is not None and keys.original is not None:  # transformers 4 wants these keys and no more
    scaling = {"type": scaling["rope_type"], **{k: v for k, v in scaling.items() if k not in ("rope_type", ORIGINAL)}}
  written |= {"rope_theta": main.rope_theta, "rope_scaling": scaling}
  if keys.partial:
    written["partial_rotary_factor"] = main.rotary
  if keys.partial and main.rope_scaling is not None:
    written[ORIGINAL] = main.rope_scaling.original_positions
  if not keys.nested:
    return written | {"rope_parameters": _parameters(main, keys)}
  if SLIDING in by_type:
    written["rope_local_base_freq"] = by_type[SLIDING].rope_theta
  return written | {"rope_parameters": {name: _parameters(kind, keys) for name, kind in by_type.items()}}


def _parameters(kind: LayerKind, keys: LayerKeys) -> dict[str, Any]:
  """An entry of `rope_parameters`."""
  partial = {"partial_rotary_factor": kind.rotary} if keys.partial else {}
  return {"rope_type": "default", **(_scaling_to_hf(kind, keys) or {}), "rope_theta": kind.rope_theta, **partial}


def _scaling_to_hf(kind: LayerKind, keys: LayerKeys) -> dict[str, Any] | None:
  scaling = kind.rope_scaling
  if scaling is None:
    return None
  table = {**NEEDED[scaling.kind], **OPTIONAL.get(scaling.kind, {}), **keys.more}
  if scaling.kind in HAVE_ORIGINAL:
    table[ORIGINAL] = "original_positions"
  values = {key: getattr(scaling, ours) for key, ours in table.items()}
  listed = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
  return {"rope_type": scaling.kind, **{key: value for key, value in listed.items() if value is not None}}
