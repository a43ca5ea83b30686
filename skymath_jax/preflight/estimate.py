"""Arithmetic about one train step on one chip: where its memory goes, and how long it takes at least.

Memory is what must be there (states, gradients, kept activations, logits) by the shapes alone; the compiler's peak is
a little higher. On GPUs, for which nothing can be compiled without one, this is the answer; it is within a tenth of
what was measured on an H200 (tests/preflight/test_estimate.py holds the rows).
"""

import dataclasses
import math
from typing import Any

from skymath_jax import sharding
from skymath_jax.config import Training
from skymath_jax.hardware import SLICE_NETWORK, Hardware
from skymath_jax.models import DecoderConfig, blockwise
from skymath_jax.models.lora import Adapters
from skymath_jax.training import loss

# What a well-written step reaches of the data sheet: matmuls of training shapes on an H200 (690 of 989 TFLOP/s), copies
MATMUL_SHARE, BANDWIDTH_SHARE = 0.7, 0.8
FORWARDS = {"none": 0.0, "wide": 0.05, "names": 0.75, "full": 1.0}  # share of a forward pass that is run again


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
  """What one chip has of the work: `shards` hold the parameters, `tokens` are of one micro-batch on this chip."""

  shards: int
  tensor: int
  tokens: int


def share(settings: Training, mesh: Any) -> Share:
  """What one chip of a (possibly abstract) mesh has."""
  rows, cut = settings.rows // settings.micro_batches, sharding.parts(mesh, "batch")
  mine = rows // cut if rows % cut == 0 else rows  # an indivisible batch is computed by everyone
  return Share(
    shards=sharding.parts(mesh, "embed", "mlp"), tensor=sharding.parts(mesh, "mlp"), tokens=mine * settings.max_length
  )


def breakdown(
  config: DecoderConfig, settings: Training, mine: Share, adapters: Adapters | None = None
) -> dict[str, int]:
  """Bytes of one chip by what they are for; `adapters` are all that is trained, if there are any."""
  width = {"float32": 4, "bfloat16": 2}
  trained = config.parameters if adapters is None else adapters.rank * inputs_and_outputs(config)
  kind = config.param_dtype if adapters is None else "float32"
  held = math.ceil(trained / mine.shards)
  weights = held * width[kind]
  gradients = weights + (held * 4 if settings.micro_batches > 1 else 0)
  frozen = 0 if adapters is None else frozen_bytes(config, adapters)
  # a layer's weights as they are multiplied: of rounded ones there is nothing else in the compute type
  restored = matrices(config) // config.layers * width[config.dtype] if adapters is not None and adapters.base else 0
  # the head (or tied table) in the compute type and its gradient, on each device in full where it is not shared
  fsdp, chunk = mine.shards // mine.tensor, min(settings.loss_chunk, mine.tokens)
  shared = loss.shares_vocabulary(config.vocab_size, chunk * fsdp, fsdp=fsdp)
  table = 0 if fsdp == 1 or shared else config.vocab_size * config.embed // mine.tensor
  return {
    "parameters": weights + math.ceil(frozen / mine.shards),
    "first_moment": held * width[settings.mu_dtype],
    "second_moment": weights,
    "gradients": gradients,
    "kept_activations": config.layers * mine.tokens * kept_bytes(config) // mine.tensor
    + config.layers * mine.tokens * config.embed * width[config.dtype],
    "logits": 2 * 4 * chunk * config.vocab_size // mine.tensor,
    "whole_table": table * (width[config.dtype] + (0 if adapters is not None else 4)),
    "one_layer": (mine.tokens * layer_bytes(config) + restored) // mine.tensor,
  }


def matrices(config: DecoderConfig) -> int:
  """Weights of the layers' matrices, which are what is adapted: of experts' layers, those of attention."""
  around = config.embed * (config.experts + 3 * config.mlp_per_token) if config.experts else 0
  return config.matmul_parameters - config.vocab_size * config.embed - config.layers * around


def inputs_and_outputs(config: DecoderConfig) -> int:
  """Inputs and outputs of all of the layers' matrices: times the rank, the weights of adapters."""
  attention = config.head_dim * (2 * config.heads + 2 * config.kv_heads)
  mlp = 0 if config.experts else 3 * (config.embed + config.mlp)
  return config.layers * (4 * config.embed + mlp + attention)


def frozen_bytes(config: DecoderConfig, adapters: Adapters) -> int:
  """Bytes of the weights that adapters leave as they are: the matrices perhaps in few bits, all else as it is."""
  width = {"float32": 4, "bfloat16": 2}[config.param_dtype]
  each = blockwise.BITS[adapters.base] / 8 if adapters.base else width
  return math.ceil(matrices(config) * each) + (config.parameters - matrices(config)) * width


def kept_bytes(config: DecoderConfig) -> int:
  """Bytes that remat keeps of one token and layer, without the layer's input."""
  itemsize = {"float32": 4, "bfloat16": 2}[config.dtype]
  attention = config.head_dim * (2 * config.heads + 2 * config.kv_heads)
  statistics = 4 * config.heads
  wide = config.embed + 2 * config.mlp * (not config.experts)  # an expert's gate and up have no name
  kept = {"full": 0, "names": attention * itemsize + statistics, "wide": (attention + wide) * itemsize + statistics}
  if config.remat in kept:
    return kept[config.remat]
  return layer_bytes(config) * 3 // 2  # `none`: also what norms and rotations leave, partly in float32 (measured)


def layer_bytes(config: DecoderConfig) -> int:
  """Bytes of everything that one token leaves in one layer on the way forward."""
  attention = config.head_dim * (2 * config.heads + 2 * config.kv_heads)
  return {"float32": 4, "bfloat16": 2}[config.dtype] * (
    attention + (4 + 2 * config.experts_per_token) * config.embed + 4 * config.mlp_per_token
  )


def step_seconds(
  config: DecoderConfig, settings: Training, mine: Share, target: Hardware, *, adapted: bool = False
) -> dict[str, float]:
  """Lower bounds of one optimizer step by compute, memory and networks; `step` is the largest, since they overlap.

  Full rows of one causal segment are assumed: packed rows have less attention. Where only adapters are trained
  (`adapted`), the weights have no gradient, which is a third of the work, and no states.
  """
  micro, chip = settings.micro_batches, target.chip
  tokens = mine.tokens * micro
  flops = tokens * config.flops_per_token(settings.max_length) / mine.tensor * (2 / 3 if adapted else 1)
  again = FORWARDS[config.remat] * tokens * config.forward_flops_per_token(settings.max_length) / mine.tensor
  held = config.parameters / mine.shards
  states = 0.0 if adapted else held * (3 * 4 + 2 * 4)  # weights, moments and gradient read, weights and moments written
  whole = config.parameters / mine.tensor * 2 * (1 - mine.tensor / mine.shards)
  gathered = micro * (2 * whole + 2 * whole)  # weights for both passes, and the gradient's sum, in bfloat16 or twice it
  between = 0.0 if target.slices == 1 or adapted else 2 * held * 4 / SLICE_NETWORK
  seconds = {
    "compute": (flops + again) / (chip.flops * MATMUL_SHARE),
    "memory": (states + micro * 3 * 2 * config.parameters / mine.tensor) / (chip.memory_bandwidth * BANDWIDTH_SHARE),
    "chip_network": gathered / (chip.link_bandwidth * BANDWIDTH_SHARE),
    "slice_network": between,
  }
  return {**seconds, "step": max(seconds.values())}
