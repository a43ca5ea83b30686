"""Tunix's full fine-tuning step compiled for a TPU slice that is not here: the half of `tpu_step` that its Python runs.

    PYTHON tpu_step_tunix.py SLICE FSDP TENSOR ROWS LENGTH        writes out.hlo and out.json into the working folder

Its own Qwen3-8B, trainer's step and default loss, with what it offers for speed: splash, layers computed again in the
backward pass. Its loss knows no segments, so rows are whole examples; its trainer does not donate the weights.
"""

import dataclasses
import os
import sys
import types
from typing import Any


def main(machine: str, fsdp: int, tensor: int, rows: int, length: int) -> None:
  """Compiles one step of all weights, float32 with Adam, bfloat16 compute, clipped."""
  os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
  import jax
  import numpy as np
  import optax
  from flax import nnx
  from jax import numpy as jnp
  from jax.sharding import NamedSharding, PartitionSpec
  from tunix.models.qwen3 import model as qwen3
  from tunix.sft import peft_trainer

  from skymath_jax import hardware, sharding
  from skymath_jax.cli import bench
  from skymath_jax.preflight import train

  devices = train.devices(hardware.find(machine))
  ours = sharding.make_mesh(fsdp=fsdp, tensor=tensor, devices=devices)
  mesh = jax.sharding.Mesh(ours.devices.reshape(fsdp, tensor), ("fsdp", "tp"))
  config = dataclasses.replace(
    qwen3.ModelConfig.qwen3_8b(),
    dtype=jnp.bfloat16,
    param_dtype=jnp.float32,
    use_flash_attention=True,
    remat_config=qwen3.RematConfig.DECODER,
  )

  def make() -> tuple[Any, Any]:
    model = qwen3.Qwen3(config, rngs=nnx.Rngs(0))
    chain = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5, weight_decay=0.0))
    return model, nnx.Optimizer(model, chain, wrt=nnx.Param)

  def placed(state: Any) -> Any:
    def put(x: Any, spec: Any) -> Any:
      known = isinstance(spec, PartitionSpec)
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec if known else PartitionSpec()))

    return jax.tree.map(put, state, nnx.get_partition_spec(state))

  def array(*shape: int, dtype: Any = np.int32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, PartitionSpec("fsdp")))

  trainer = types.SimpleNamespace(
    gen_model_input_fn=lambda x: x, loss_fn=peft_trainer._default_loss_fn, _lora_enabled=False, _has_aux=False
  )
  (model_graph, weights), (chain_graph, states) = map(nnx.split, nnx.eval_shape(make))
  weights, states = placed(weights), placed(states)
  batch = {name: array(rows, length) for name in ("input_tokens", "input_mask", "positions")}
  batch["attention_mask"] = array(rows, length, length, dtype=bool)

  def step(weights: Any, states: Any, batch: Any) -> Any:
    model, optimizer = nnx.merge(model_graph, weights), nnx.merge(chain_graph, states)
    loss, _, norm = peft_trainer.PeftTrainer._train_step(trainer, model, optimizer, batch)
    return nnx.state(model), nnx.state(optimizer), loss, norm

  places = jax.tree.map(lambda x: x.sharding, (weights, states))
  jax.devices = lambda *_: devices  # its layers constrain nothing where the first device is a CPU
  with mesh:  # it reads the mesh from there
    run = jax.jit(step, donate_argnums=1, out_shardings=(*places, None, None))
    compiled = run.lower(weights, states, batch).compile()
  bench.module("tpu_step").keep(compiled)


if __name__ == "__main__":
  main(sys.argv[1], *map(int, sys.argv[2:]))
