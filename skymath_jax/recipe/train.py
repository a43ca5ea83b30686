"""Stages `train`: supervised fine-tuning, first of the base model, then of the stage-1 model, its optimizer fresh."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from flax import nnx

import skymath_jax
from skymath_jax import config as config_lib
from skymath_jax import distributed, files, hardware, integrity, models, prompts, sft, sharding, training
from skymath_jax import tokenizer as tokenizer_lib
from skymath_jax.chat import frames
from skymath_jax.config import SCRATCH, Experiment, Model, Training
from skymath_jax.engine import memory
from skymath_jax.errors import UserError
from skymath_jax.hardware import GIB
from skymath_jax.models import blockwise
from skymath_jax.models.lora import Adapters
from skymath_jax.preflight import estimate
from skymath_jax.preflight.check import STRONGER
from skymath_jax.recipe.types import Run, Stage
from skymath_jax.recipe.workdir import FETCH_SECONDS, WORK_SECONDS
from skymath_jax.records import Facts
from skymath_jax.sft import pairs, texts
from skymath_jax.tokenizer import Tokenizer
from skymath_jax.training import tokens as tokens_lib
from skymath_jax.training.tokens import Source, Tokens

READS = ("rng_seed", "model", "training")
TOKENIZER, TOKENS = "tokenizer", "tokens"  # folders of the workdir
TOKENIZER_EXAMPLES = 20_000  # of the training data, from which a vocabulary is made


def train(run: Run, number: int) -> Facts:
  """SFT stage `number`: `sft/stageN`, or what `training.data` names, → `checkpoints/stageN`.

  Raises:
    UserError: bad data, a checkpoint of another run, too little memory, or a loss that is not finite.
  """
  config, folder = run.config, run.workdir.checkpoints / f"stage{number}"
  source = _source(run, number)
  if isinstance(source, pairs.Pairs) and distributed.is_writer():
    source.show()
  mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh)) if jax.device_count() > 1 else None
  if jax.devices()[0].platform == "cpu" and mesh is None:
    require_memory(config, memory.usable())
  decoder, tokenizer, adapter = _start_model(run, number, source, mesh)
  facts = training.train(
    decoder,
    tokenizer,
    source,
    folder,
    config.training,
    config.training.stage(number),
    mesh=mesh,
    rng_seed=config.rng_seed + number,
    tokens=_tokens(run, number, source, tokenizer),
    provenance={"config_hash": config_lib.config_hash(config), "skymath_jax": skymath_jax.__version__},
    adapter=adapter,
  )
  return {"output": models.weights_hash(folder), **facts}


def _stage(number: int, *needs: str) -> Stage:
  name, work = f"train stage {number}", functools.partial(train, number=number)
  return Stage(name, f"checkpoints/stage{number}", work, needs, READS, everywhere=True)


STAGES = [_stage(1, "sft/stage1"), _stage(2, "sft/stage2", "checkpoints/stage1")]


def _data(run: Run) -> Facts:
  data = run.config.training.data
  return {} if not data or data in texts.TEXTS else {"data": _source(run, 1).fingerprint}


# What `train` does with `training.data`
ON_DATA = dataclasses.replace(STAGES[0], name="train", needs=(), outside=_data)


def machine() -> str:
  """What this job runs on, as recipes call it; empty for what has no name."""
  distributed.initialize()
  return hardware.called(jax.devices()[0].device_kind, jax.device_count())


def template_for(model: str) -> str:
  """How a model is best fine-tuned: in its own chat template where it has one, else in a frame of ours.

  Raises:
    UserError: there is no such model.
  """
  return frames.CHAT if models.tokenizer_of(model).chat_template else Training.template


def step_of(config: Experiment) -> tuple[models.DecoderConfig, Training]:
  """What the compiled step of a stage depends on, without weights or data."""
  m = config.model
  shape = models.config_of(m.path) if m.path else _scratch_config(config)
  held = weights_dtype(m)
  shape = dataclasses.replace(shape, dtype=m.dtype, param_dtype=held, remat=m.remat, scan_layers=m.scan_layers)
  return shape, config.training


def step_bytes(config: Experiment, devices: int, **changes: Any) -> int:
  """Bytes that a training step takes of each of so many devices, by arithmetic; `changes` are of the decoder."""
  shape, settings = step_of(config)
  share = estimate.share(settings, sharding.abstract_mesh(**dataclasses.asdict(config.mesh), count=devices))
  return sum(estimate.breakdown(dataclasses.replace(shape, **changes), settings, share, adapters_of(config)).values())


def require_memory(config: Experiment, have: int | None) -> None:
  """Refuses a step that needs more than `have` bytes on one device (None: nobody knows), before a weight is read.

  A CPU needs this: an accelerator's compiler says it as well, main memory ends in a message of XLA's or in none.

  Raises:
    UserError: with the figures, and what would fit.
  """

  def needed(**changes: Any) -> int:
    return step_bytes(config, 1, **changes)

  if have is None or needed() <= have:
    return
  remats = [name for name in STRONGER.values() if needed(remat=name) <= have]
  by_remat = f"config.model.remat={remats[0]} ({needed(remat=remats[0]) / GIB:.1f} GiB)" if remats else ""
  others = "fewer config.training.rows, a shorter config.training.max_length, or config.training.lora_rank=16"
  what = f"a training step needs about {needed() / GIB:.1f} GiB of memory, and {have / GIB:.1f} can be had"
  raise UserError(what, where="config.model.remat", remedy=f"set {by_remat or others}")


def weights_dtype(config: Model) -> str:
  """The type of weights that are not rounded: those of few bits are rounded from bfloat16."""
  return "bfloat16" if config.param_dtype in blockwise.BITS else config.param_dtype


def adapters_of(config: Experiment) -> Adapters | None:
  """What is trained in the place of the weights; None where these are.

  Raises:
    UserError: weights in few bits, which cannot be trained themselves.
  """
  t, held = config.training, config.model.param_dtype
  form: Any = held if held in blockwise.BITS else ""
  if not t.lora_rank and form:
    remedy = "set config.training.lora_rank, such as 16, to adapt them, or another type"
    raise UserError(f"{held} weights cannot be trained", where="config.model.param_dtype", remedy=remedy)
  return Adapters(rank=t.lora_rank, alpha=t.lora_alpha, base=form) if t.lora_rank else None


def start_from(
  path: epath.PathLike, config: Experiment, mesh: jax.sharding.Mesh | None
) -> tuple[models.Decoder, Tokenizer, Facts | None]:
  """The model of `path` as training begins with it, its tokenizer, and what its adapters, if it has them, adapt.

  Raises:
    UserError: no such model, or adapters other than the config's.
  """
  adapters, dtype = adapters_of(config), weights_dtype(config.model)
  if adapters is None:
    decoder, tokenizer = models.load_any(path, mesh=mesh, dtype=dtype)
    return as_trained(decoder, config.model), tokenizer, None
  prepare = functools.partial(as_trained, config=config.model)
  decoder, tokenizer, reference = models.load_adapted(
    path, adapters, mesh=mesh, dtype=dtype, prepare=prepare, rng_seed=config.rng_seed
  )
  return decoder, tokenizer, reference.as_json()


def as_trained(decoder: models.Decoder, config: Model) -> models.Decoder:
  """The decoder with the compute dtype, rematerialisation and layer layout of the group `config.model`."""
  decoder = decoder.replace(dtype=config.dtype, remat=config.remat)
  return decoder if config.scan_layers else decoder.unstacked()


def _source(run: Run, number: int) -> Source:
  t = run.config.training
  if not t.data:
    return sft.open(run.workdir / "sft" / f"stage{number}")
  if t.data in texts.TEXTS:
    return texts.generate(t.data, t.examples, rng_seed=run.config.rng_seed)
  return pairs.open(t.data, t.columns)


def _tokens(run: Run, number: int, source: Source, tokenizer: Tokenizer) -> Tokens:
  """Made once by the writer's cores, kept in the workdir for every resume and host."""
  name, template = f"{TOKENS}/stage{number}", run.config.training.template
  if distributed.is_writer():
    tokens_lib.keep(run.workdir / name, source, tokenizer, template)
    run.workdir.push(name)
  distributed.barrier("the tokens are there", seconds=WORK_SECONDS)
  run.workdir.pull(name)
  return tokens_lib.open(run.workdir / name)


def _start_model(
  run: Run, number: int, source: Source, mesh: jax.sharding.Mesh | None
) -> tuple[models.Decoder, Tokenizer, Facts | None]:
  config, path = run.config, run.workdir.checkpoints / "stage1" if number == 2 else run.config.model.path
  if path:
    decoder, tokenizer, adapter = start_from(path, config, mesh)
  elif adapters_of(config) is not None:
    what, remedy = "a model from nothing has nothing to adapt", "name a model there, or set training.lora_rank to 0"
    raise UserError(what, where="config.model.path", remedy=remedy)
  else:
    decoder, tokenizer = _from_scratch(run, source)
    decoder, adapter = as_trained(decoder, config.model), None
  return decoder, frames.dressed(tokenizer, config.training.template), adapter


def _from_scratch(run: Run, source: Source) -> tuple[models.Decoder, Tokenizer]:
  """A new decoder, and a vocabulary made from the training text with the prompts' fixed lines as single tokens."""
  model, folder = run.config.model, run.workdir / TOKENIZER
  if model.tokenizer:
    folder = models.resolve(model.tokenizer)
  elif distributed.is_writer() and integrity.completion(folder) is None:
    with files.new_folder(folder) as temporary:
      tokenizer_lib.train_sentencepiece(
        map(_text, itertools.islice(source, TOKENIZER_EXAMPLES)),
        temporary,
        vocab_size=_scratch_config(run.config).vocab_size,
        fixed=_fixed_pieces(),
      )
    integrity.complete(folder, {})
    run.workdir.push(TOKENIZER)
  distributed.barrier("the tokenizer is there", seconds=FETCH_SECONDS)
  run.workdir.pull(TOKENIZER)
  tokenizer = tokenizer_lib.load(folder)
  decoder_config = dataclasses.replace(_scratch_config(run.config), vocab_size=tokenizer.vocab_size)
  return models.Decoder(decoder_config, rngs=nnx.Rngs(run.config.rng_seed)), tokenizer


def _text(row: Mapping[str, Any]) -> str:
  turns = row.get("messages")
  return str(row["query"] + row["response"] if turns is None else "".join(turn["content"] for turn in turns))


def _scratch_config(config: Experiment) -> models.DecoderConfig:
  """The sizes of `model.scratch`; its heads share the width where no `head_dim` says otherwise."""
  sizes: dict[Any, Any] = {**SCRATCH, **config.model.scratch}
  sizes.setdefault("head_dim", sizes["embed"] // sizes["heads"])
  length, dtype = config.training.max_length, weights_dtype(config.model)
  return models.DecoderConfig(**sizes, max_positions=length, param_dtype=dtype)


def _fixed_pieces() -> list[str]:
  """What is one token each: the fixed text of every prompt, and a blank with a digit (numbers stay digit by digit)."""
  literals = dict.fromkeys(piece for name in prompts.names() for piece in prompts.load(name).literals)
  return [piece for piece in literals if len(piece.split()) > 1 or "\n" in piece] + [f" {digit}" for digit in range(10)]
