"""The one place that knows mesh axes: the mesh, the table logical axis -> mesh axis, and placement from it.

Modules name what an axis means ("embed", "heads"); this file says where it lives. `data` holds copies of the
parameters, `fsdp` shares them, `tensor` splits each matrix. Example::

  mesh = make_mesh(fsdp=-1)
  with jax.set_mesh(mesh):          # makes `constrain` effective inside jit
    state = jax.jit(init, out_shardings=shardings_of(jax.eval_shape(init), mesh))()
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from flax import nnx
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from skymath_jax import config
from skymath_jax.errors import UserError

Axes: TypeAlias = tuple[str | None, ...]
MESH_AXES = ("data", "fsdp", "tensor")

RULES: dict[str, str | tuple[str, ...] | None] = {
  # activations
  "batch": ("data", "fsdp"),
  "shared_batch": "data",  # rows that all devices with a part of `shared_vocab` see
  "slots": ("data", "fsdp"),
  "length": None,
  "act_embed": None,  # not `embed`: batch already lives on fsdp
  # weights
  "layers": None,
  "embed": "fsdp",
  "vocab": "tensor",
  "shared_vocab": ("fsdp", "tensor"),  # of logits, where tokens are less to move than the table (training.loss)
  "heads": "tensor",
  "kv_heads": "tensor",
  "head_dim": None,
  "mlp": "tensor",
  "experts": None,
  "router": "tensor",  # of as many columns as there are experts
  "rank": None,
  "blocks": "fsdp",  # of `embed`, whose scales these are
}
# Who cuts a weight instead where an axis does not divide: fewer key-value heads than the mesh axis is wide, and
# vocabularies that someone made longer by a token or two
YIELDS = {"kv_heads": "embed", "vocab": "embed"}
MAY_REPLICATE = {"kv_heads", "blocks", "router"}  # a bias or a scale has no other axis to give it to; it is small


def make_mesh(
  data: int = config.Mesh.data,
  fsdp: int = config.Mesh.fsdp,
  tensor: int = config.Mesh.tensor,
  *,
  devices: Sequence[Any] | None = None,
) -> Mesh:
  """A mesh over all (or the given) devices; one of the three sizes may be -1, the rest of the devices.

  Between slices lies a slow network, so `data` (which carries one gradient sum a step, and no weights) runs over the
  slices first, and over the chips of a slice with what is left of it.

  Raises:
    UserError: the sizes do not multiply to the number of devices, or `data` not to that of slices.
  """
  devices = jax.devices() if devices is None else list(devices)
  sizes = _sizes({"data": data, "fsdp": fsdp, "tensor": tensor}, len(devices))
  types = (AxisType.Auto,) * 3  # JAX's default is Explicit; the style here is that XLA places collectives
  slices = len({getattr(device, "slice_index", 0) for device in devices})
  if slices == 1:
    return jax.make_mesh(tuple(sizes.values()), MESH_AXES, axis_types=types, devices=devices)
  if sizes["data"] % slices:
    remedy = f"set config.mesh.data to {slices}, or a multiple of it"
    raise UserError(f"data {sizes['data']} does not spread over {slices} slices", where="mesh", remedy=remedy)
  inner = (sizes["data"] // slices, sizes["fsdp"], sizes["tensor"])
  return Mesh(
    mesh_utils.create_hybrid_device_mesh(inner, (slices, 1, 1), devices, allow_split_physical_axes=True),
    MESH_AXES,
    axis_types=types,
  )


def serving_sizes(
  devices: int, *, kv_heads: int, heads: int, mlp: int, table: Sequence[int], weights: float
) -> dict[str, int]:
  """Mesh sizes for decoding: matrices are split, so that no step gathers weights; copies where they cannot be.

  As many devices as divide the key-value heads, the MLP and an axis of the `table` of embeddings split them, and what
  is in the slots lies once on all of them. Where the weights leave a device half empty at most then (`weights` is what
  all of them are of the memory of one device), the query heads are split further, and keys and values copied.
  """
  for limit in (kv_heads, heads):
    tensor = math.gcd(devices, limit, mlp, max(math.gcd(devices, size) for size in table))
    if weights / tensor <= 0.5:
      break
  return {"data": devices // tensor, "fsdp": 1, "tensor": tensor}


def abstract_mesh(
  data: int = config.Mesh.data, fsdp: int = config.Mesh.fsdp, tensor: int = config.Mesh.tensor, *, count: int
) -> jax.sharding.AbstractMesh:
  """The mesh that `make_mesh` would make of `count` devices, for arithmetic about it.

  Raises:
    UserError: the sizes do not multiply to `count`.
  """
  sizes = _sizes({"data": data, "fsdp": fsdp, "tensor": tensor}, count)
  return jax.sharding.AbstractMesh(tuple(sizes.values()), MESH_AXES)


def _sizes(sizes: dict[str, int], count: int) -> dict[str, int]:
  """The sizes with -1 replaced by what is left of `count` devices."""
  shown = " × ".join(f"{name} {size}" for name, size in sizes.items())
  free = [name for name, size in sizes.items() if size == -1]
  fixed = math.prod(size for size in sizes.values() if size != -1)
  if len(free) > 1 or fixed < 1:
    raise UserError(f"{shown} is no mesh", where="mesh", remedy="give positive sizes and at most one -1")
  if free and count % fixed == 0:
    sizes = {**sizes, free[0]: count // fixed}
  if math.prod(sizes.values()) != count:
    raise UserError(
      f"{shown} does not use {count} devices", where="mesh", remedy="make the product equal, or set one to -1"
    )
  return sizes


def parts(mesh: Any, *axes: str) -> int:
  """Into how many parts these logical axes together are cut, e.g. `parts(mesh, "batch")`."""
  targets = [RULES[axis] for axis in axes]
  flat = [name for t in targets if t is not None for name in ((t,) if isinstance(t, str) else t)]
  return math.prod(mesh.shape[name] for name in flat)


def spec(axes: Sequence[str | None], shape: Sequence[int], mesh: Any, *, name: str | None = None) -> PartitionSpec:
  """The partition of an array with these logical axes; `name` (of a weight) makes an indivisible dimension an error.

  A weight's axis of `YIELDS` that does not divide hands its mesh axes to the axis named there instead.

  Raises:
    UserError: an axis without a row, two axes on one mesh axis, or a weight's dimension that does not divide.
  """
  cuts = _cuts(axes, mesh, name)
  for place, (axis, size) in enumerate(zip(axes, shape, strict=True)):
    if size % _ways(cuts[place], mesh) == 0:
      continue
    taker = list(axes).index(YIELDS[axis]) if name is not None and axis in YIELDS and YIELDS[axis] in axes else None
    if taker is not None and shape[taker] % _ways(cuts[taker] + cuts[place], mesh) == 0:
      cuts[taker] += cuts[place]
    elif name is not None and axis not in MAY_REPLICATE:
      raise UserError(
        f"{axis} = {size} of weight {name} does not divide by mesh axis {' × '.join(cuts[place])} of size "
        f"{_ways(cuts[place], mesh)}",
        where="mesh",
        remedy="choose a smaller mesh axis that divides it",
      )
    cuts[place] = ()
  entries = [cut[0] if len(cut) == 1 else cut or None for cut in cuts]
  while entries and entries[-1] is None:  # JAX takes specs with and without trailing None for different
    entries.pop()
  return PartitionSpec(*entries)


def _cuts(axes: Sequence[str | None], mesh: Any, name: str | None) -> list[tuple[str, ...]]:
  """The mesh axes (wider than 1) that `RULES` gives each logical axis."""
  cuts: list[tuple[str, ...]] = []
  used: dict[str, str | None] = {}
  for axis in axes:
    if axis is not None and axis not in RULES:
      raise UserError(f"axis {axis!r} of {name} has no row", where="sharding.RULES", remedy="add one; None replicates")
    target = None if axis is None else RULES[axis]
    targets = () if target is None else (target,) if isinstance(target, str) else target
    cuts.append(tuple(t for t in targets if mesh.shape[t] > 1))
    for t in cuts[-1]:
      if t in used:
        raise UserError(
          f"axes {used[t]!r} and {axis!r} of {name} both lie on mesh axis {t!r}",
          where="sharding.RULES",
          remedy="give one of them another row",
        )
      used[t] = axis
  return cuts


def _ways(cut: Sequence[str], mesh: Any) -> int:
  """Into how many parts these mesh axes cut."""
  return math.prod(mesh.shape[axis] for axis in cut)


def platform() -> str:
  """What the program at hand is for: the platform of the mesh of `jax.set_mesh`, which need not be here, or of JAX."""
  mesh = jax.sharding.get_abstract_mesh()
  device = None if mesh.empty else mesh.abstract_device
  return device.platform if device is not None else jax.default_backend()


def constrain(x: jax.Array, *axes: str | None, weight: str | None = None) -> jax.Array:
  """Tells XLA where an activation of logical `axes`, such as `[batch length act_embed]`, or a `weight` lives.

  It does nothing outside `jax.set_mesh`; indivisible axes of activations stay replicated.

  Raises:
    UserError: an axis without a row in `RULES`, or one of a weight that does not divide.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(x, spec(axes, x.shape, mesh, name=weight))


def per_device(
  function: Callable[..., jax.Array], axes: Sequence[Axes], result: Axes, *, summed: str | None = None
) -> Callable[..., jax.Array]:
  """`function` applied to each device's share of its arguments: for kernels that XLA cannot split by itself.

  `axes` and `result` name the logical axes of the shapes of arguments and result. Where `function` sums over the axis
  `summed`, the results of those that share it are added up. Outside `jax.set_mesh` it is `function`.

  Raises:
    UserError: an axis without a row in `RULES`.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return function
  over = _cuts((summed,), mesh, None)[0]

  def whole(*arguments: jax.Array) -> jax.Array:
    return jax.lax.psum(function(*arguments), over) if over else function(*arguments)

  def call(*arguments: jax.Array) -> jax.Array:
    specs = tuple(spec(names, x.shape, mesh) for names, x in zip(axes, arguments, strict=True))
    shape = jax.eval_shape(function, *arguments).shape
    out = spec(result, shape, mesh)
    return jax.shard_map(whole, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)(*arguments)

  return call


def same_place(axis: str, size: int, other: str, other_size: int) -> bool:
  """Whether two logical axes of these sizes are cut alike on the mesh of `jax.set_mesh`."""
  mesh = jax.sharding.get_abstract_mesh()
  return mesh.empty or spec((axis,), (size,), mesh) == spec((other,), (other_size,), mesh)


def named(mesh: Mesh, *axes: str | None, shape: Sequence[int]) -> NamedSharding:
  """Where an input such as a batch goes, e.g. `named(mesh, "batch", "length", shape=tokens.shape)`."""
  return NamedSharding(mesh, spec(axes, shape, mesh))


def place(tree: Any, shardings: Any) -> Any:
  """The arrays of `tree` where `shardings` (a tree like it) say; every process of a job holds the same values."""

  def one(x: Any, where: jax.sharding.Sharding) -> jax.Array:
    if x.sharding == where or where.is_fully_addressable:
      return jax.device_put(x, where)
    whole = np.asarray(x)
    return jax.make_array_from_callback(whole.shape, where, whole.__getitem__)

  return jax.tree.map(one, tree, shardings)


def shardings_of(abstract_state: Any, mesh: Mesh) -> Any:
  """A `NamedSharding` for each array of a state tree, from the axis names that its `nnx` variables carry.

  Optimizer moments made from parameters carry the same names and get the same place; leaves without names, such as
  step counters, are replicated.
  """

  def place(path: Any, leaf: Any) -> Any:
    if not isinstance(leaf, nnx.Variable):
      return NamedSharding(mesh, PartitionSpec())
    value, metadata = leaf.get_value(), leaf.get_metadata()
    axes = metadata["out_sharding"] if "out_sharding" in metadata else None
    shape = getattr(value, "shape", ())
    where = NamedSharding(mesh, PartitionSpec())
    if axes is not None:
      name = ".".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)
      where = NamedSharding(mesh, spec(axes, shape, mesh, name=name))
    return leaf.replace(where)

  return jax.tree_util.tree_map_with_path(place, abstract_state, is_leaf=lambda x: isinstance(x, nnx.Variable))
