"""Every setting of an experiment, declared once: its key, type, default, allowed values and (behind it) its meaning.

An experiment is a file in `configs/` whose `get_config()` starts from `base()` and sets what differs. The ConfigDict
stops at the door: `resolve` checks it and makes an `Experiment` of it, of which rooms take the section that they need.
A value marked `Free` says where and how often, not what: a run may go on with another one, on another machine.
"""

import dataclasses
import difflib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from ml_collections import ConfigDict

from skymath_jax import integrity
from skymath_jax.errors import UserError
from skymath_jax.keys import Amount, AtLeast, Count, Free, Key, Positive, built, comments_in, keys_of

Words = tuple[str, ...]
Dtype = Literal["float32", "bfloat16"]
Held = Literal["float32", "bfloat16", "int8", "nf4"]  # the last two cannot be trained, but adapted


@dataclass(frozen=True, kw_only=True)
class Seeds:
  """The seed problems."""

  sources: Words = ("math",)  # seed problems: catalog names, files, folders, FOLDER:split, hub ids
  limit: Count = 0  # at most so many problems of each source; 0 = all
  data_dir: Free[str] = "~/.cache/skymath/datasets"  # prepared data sets, and SOURCE/ for files fetched by hand


@dataclass(frozen=True, kw_only=True)
class Teacher:
  """Who answers the prompts of synthesis."""

  backend: Literal["jetstream", "openai", "batch", "local"] = "jetstream"  # our server, an endpoint, its batches, here
  model: str = ""  # HF folder, checkpoint folder, asset:NAME, or the endpoint's model name
  chat: Literal["auto", "template", "raw"] = "auto"  # prompts as a chat of the model's; auto: where it has a template
  addresses: Free[Words] = ()  # host:port of running JetStream servers, or @FILE of them; empty = one is started
  base_url: Free[str] = ""  # OpenAI-compatible endpoint, up to and including /v1
  api_key_variable: Free[str] = "OPENAI_API_KEY"  # environment variable that holds the key
  certificate: Free[str] = ""  # PEM file that signs the JetStream servers' TLS certificates; empty = no TLS
  concurrency: Free[Positive] = 512  # requests in flight at most
  requests_per_minute: Free[Amount] = 0.0  # an endpoint's rate limit; 0 = none
  tokens_per_minute: Free[Amount] = 0.0  # an endpoint's rate limit, prompt and response together; 0 = none
  prices: Free[tuple[Amount, Amount]] = (0.0, 0.0)  # of a paid endpoint: a million prompt tokens, a million written
  cost_ceiling: Free[Amount] = 0.0  # most money a workdir's answers may cost, resumed runs included; 0 = no ceiling
  parameters: Free[str] = ""  # JSON of what an endpoint wants otherwise, e.g. {"omit": ["seed"]}: generation/parameters
  start_seconds: Free[Positive] = 900  # how long a server that `run` starts may take to become healthy


@dataclass(frozen=True, kw_only=True)
class Serving:
  """How a model is served: the teacher that a run starts, the models that it evaluates, and `skymath serve`."""

  slots: Free[Positive] = 128  # sequences decoded at once, at most: the work and the memory decide
  max_length: Free[Positive] = 4096  # prompt + response tokens that a slot can hold, at most
  steps_per_call: Free[Positive] = 16  # decode steps a host call


Runs = Mapping[str, Amount]  # method → runs (of evol: chains) per problem; a share of a run is a share of the problems
HASH_DIGITS = 16  # of `config_hash`
METAMATH = ("answer_augmentation", "rephrase", "self_verification", "fobar")
NORMAL = {**dict.fromkeys(METAMATH, 9.0), "evol": 14.0, "xwin": 35.0}
HARD = {**dict.fromkeys(METAMATH, 6.25), "evol": 10.0, "xwin": 25.0}


@dataclass(frozen=True, kw_only=True)
class Synthesis:
  """Seed problems × methods → instances (Skywork section 3)."""

  temperature: Amount = 0.7  # of the teacher (Skywork section 3, footnote 1)
  top_p: Amount = 1.0  # nucleus of the teacher's sampling
  max_tokens: Positive = 2048  # of one teacher response
  evol_steps: Positive = 5  # longest chain of evolutions (Skywork section 3.1)
  evol_elimination: bool = True  # drop evolutions by the four WizardLM rules
  prompts: Literal["plain", "few_shot", "question"] = "plain"  # few_shot: worked examples; question: nothing around it
  samples: Positive = 1  # responses to each query
  rounds: Count = 0  # right answers with which a problem's runs of answer_augmentation end; 0 = all runs are done
  student: bool = False  # stage 2 asks the model of stage 1, not the teacher (rejection sampling)
  judge: tuple[Literal["verdict", "difficulty"], ...] = ()  # labels that the teacher gives each instance
  max_rejected: Free[Amount] = 0.5  # share of a pass that may be rejected: one with more stops early; 1 = never
  coreset_size: Count = 7500  # problems selected by k-center between pass 1 and pass 2
  embedding: str = "hashed"  # of the selection: hashed | model (the base model) | sentence-transformers:NAME
  hard_levels: tuple[int, ...] = (4, 5)  # levels of the stage-2 seed problems (Skywork section 3.2)
  pass1: Runs = dataclasses.field(default_factory=NORMAL.copy)  # method → runs per seed problem in stage 1
  pass2: Runs = dataclasses.field(default_factory=NORMAL.copy)  # method → runs per selected problem in stage 1
  hard: Runs = dataclasses.field(default_factory=HARD.copy)  # method → runs per hard seed problem in stage 2


@dataclass(frozen=True, kw_only=True)
class Curation:
  """Which instances are kept."""

  inputs: Words = ()  # files, folders, hub ids to curate on their own; empty = what synthesis made
  test_sets: Words = ("math:test", "gsm8k:test")  # what must not leak: catalog names, suites or files
  ngram: Positive = 30  # whitespace words shared with a test item that make a leak (Skywork section 4.3.7)
  near_duplicate: Amount = 0.8  # Jaccard similarity of word 3-grams that makes a near-duplicate; 0 = leave them in
  fuzzy: Amount = 0.0  # likeness to a test question that makes a leak (stories 0.35, MATH 0.7); 0 = no such check
  quality: Words = ()  # filters: gold, solved, majority, verdict, thoughts; empty = keep all (Skywork section 3.2)
  hard: Amount = 0.0  # share of the queries that is kept, hardest first; 0 = all
  responses_per_query: Count = 0  # at most so many responses to one query; 0 = no limit
  parquet: bool = False  # also write the kept rows as Parquet
  workers: Free[Count] = 0  # processes; 0 = one a core, none for small data


Size = Literal["embed", "layers", "heads", "kv_heads", "head_dim", "mlp", "vocab_size"]
SCRATCH: dict[Size, int] = {"embed": 128, "layers": 4, "heads": 4, "kv_heads": 2, "mlp": 384, "vocab_size": 896}


@dataclass(frozen=True, kw_only=True)
class Model:
  """The base model, and how it computes."""

  path: str = ""  # base model: HF folder, checkpoint folder, asset:NAME; empty = from scratch
  dtype: Dtype = "bfloat16"  # of compute, that of a teacher served here too
  param_dtype: Held = "float32"  # of weights, Adam's second moment; int8 and nf4 need training.lora_rank
  scan_layers: bool = True  # one compiled layer for all (fast to compile); False is faster to run on CPU
  remat: Free[Literal["none", "wide", "names", "full"]] = "names"  # what the backward pass recomputes: nothing to all
  scratch: Mapping[Size, Positive] = dataclasses.field(default_factory=SCRATCH.copy)  # sizes of a model from nothing
  tokenizer: str = ""  # folder whose tokenizer a model from nothing has; empty = one is trained on the data


@dataclass(frozen=True, kw_only=True)
class Stage:
  """What differs between the two SFT stages."""

  learning_rate: Amount = 2e-6  # peak, after warm-up
  epochs: Positive = 3  # over the stage's data set


@dataclass(frozen=True, kw_only=True)
class Training:
  """Supervised fine-tuning."""

  data: str = ""  # pairs for `train` on its own: FILE, FOLDER:split, hub id, A:2,B:1, text set; empty = sft/STAGE
  columns: str = ""  # of those pairs: QUERY,RESPONSE or MESSAGES; empty = found by their usual names
  examples: Count = 0  # how many examples to draw from a generated text set
  template: str = "sft/alpaca"  # a prompt frame, chat (the model's own) or FILE.jinja; thoughts, too: chat+thoughts
  max_length: Positive = 2048  # tokens of a packed row
  rows: Positive = 8  # packed rows an optimizer step (about 32 paper examples)
  micro_batches: Free[Positive] = 1  # parts of a step that are computed one after another
  packed: Free[bool] = True  # False gives each example a row of its own: the same steps, slower, for comparison
  warmup_ratio: Amount = 0.03  # share of the steps with rising learning rate
  schedule: Literal["cosine", "linear", "constant"] = "cosine"  # of the learning rate, after warm-up
  betas: tuple[float, float] = (0.9, 0.999)  # AdamW's decay of the first and the second moment
  epsilon: Amount = 1e-8  # AdamW's denominator floor
  weight_decay: Amount = 0.0  # none in the paper; norms, biases and embeddings never decay
  lora_rank: Count = 0  # of adapters on every linear layer, trained in place of the weights; 0 = the weights are
  lora_alpha: Amount = 32.0  # alpha / rank is the factor with which the adapters count
  clip: Amount = 1.0  # global gradient norm; 0 = no clipping
  mu_dtype: Dtype = "float32"  # of Adam's first moment
  loss_weighting: Literal["token", "example"] = "token"  # what counts alike
  loss_chunk: Free[Positive] = 2048  # loss-bearing tokens of one device whose logits exist at one time
  checkpoint_every: Free[Positive] = 500  # steps
  keep: Free[Positive] = 2  # newest checkpoints
  keep_best: Free[bool] = False  # also the checkpoint with the lowest loss on the held-out examples
  held_out: Count = 0  # examples kept out of training; their loss is measured at every checkpoint
  profile_step: Free[Count] = 0  # first of five steps whose profile is written; 0 = none
  stage1: Stage = Stage()
  stage2: Stage = Stage()

  def stage(self, number: int) -> Stage:
    """What differs in stage `number`."""
    return {1: self.stage1, 2: self.stage2}[number]


@dataclass(frozen=True, kw_only=True)
class Mesh:
  """Devices along each axis; -1 takes all that are left."""

  data: Free[Annotated[int, AtLeast(-1)]] = 1  # devices that hold copies of the parameters
  fsdp: Free[Annotated[int, AtLeast(-1)]] = -1  # devices that share the parameters
  tensor: Free[Annotated[int, AtLeast(-1)]] = 1  # devices that split each matrix


@dataclass(frozen=True, kw_only=True)
class Evaluation:
  """Zero-shot questions and their grading."""

  benchmarks: Words = ("math:test", "gsm8k:test")  # catalog names, suites or files; the first is the headline
  models: Words = ("base", "stage1", "stage2")  # which models of the run are evaluated
  limit: Count = 0  # at most so many problems a benchmark; 0 = all
  mode: Literal["strict", "symbolic"] = "strict"  # strict is the paper's string grader
  samples: Positive = 1  # responses to each problem; several need a temperature and give pass@k and maj@k
  template: str = ""  # for models not trained here: a frame, chat or chat:FRAME; empty = training.template
  temperature: Amount = 0.0  # 0 = greedy, as the paper's grader script
  max_tokens: Positive = 2048  # of one response


@dataclass(frozen=True, kw_only=True)
class Study:
  """Accuracy against amount of data. Its cells are named by what they are made of, so any may be added to it."""

  sizes: Free[tuple[int, ...]] = (7_500, 60_000, 360_000, 1_000_000, 2_100_000)  # the fit does not see the largest
  rng_seeds: Free[Count] = 3  # how many times each cell is made, with RNG seeds 0, 1, ...
  ablations: Free[Words] = ("methods", "verifier", "coreset", "hard", "order", "ngram", "length")  # study/ablations.py
  ablation_size: Free[Count] = 360_000  # instances of each set that an ablation compares
  keep_checkpoints: Free[bool] = False  # keep the weights of every cell, not only what it answered


@dataclass(frozen=True, kw_only=True)
class Export:
  """The Hugging Face folder of the last model."""

  dtype: Dtype = "bfloat16"  # of the exported weights


@dataclass(frozen=True, kw_only=True)
class Experiment:
  """The paper's recipe (Skywork-Math section 4.1.3), with gaps filled."""

  name: Free[str] = "unnamed"  # shown in the report and the model card
  rng_seed: Count = 0  # every random choice of a run derives from it
  hardware: Free[str] = ""  # that the recipe was fitted to: what stands after the colon of --config=FILE.py:HARDWARE
  seeds: Seeds = Seeds()
  teacher: Teacher = Teacher()
  serving: Serving = Serving()
  synthesis: Synthesis = Synthesis()
  curation: Curation = Curation()
  model: Model = Model()
  training: Training = Training()
  mesh: Mesh = Mesh()
  evaluation: Evaluation = Evaluation()
  study: Study = Study()
  export: Export = Export()


KEYS = {key.name: key for key in keys_of(Experiment(), comments_in(__file__))}


def find(name: str) -> Key:
  """The key called `name`, such as `training.rows`, or of an entry such as `synthesis.pass1.xwin`.

  Raises:
    UserError: there is none; the nearest is named.
  """
  group, _, entry = name.rpartition(".")
  if name in KEYS:
    return KEYS[name]
  if group in KEYS and KEYS[group].kind is dict:
    return KEYS[group].entry(entry)
  remedy = f"did you mean config.{nearest(name)}? `skymath config` lists all"
  raise UserError("no such key", where=f"config.{name}", remedy=remedy)


def nearest(name: str) -> str:
  """The known key most like `name`: the last part of the name counts as much as the whole."""

  def likeness(known: str) -> float:
    ends = difflib.SequenceMatcher(None, name.rpartition(".")[2], known.rpartition(".")[2])
    return ends.ratio() + difflib.SequenceMatcher(None, name, known).ratio()

  return max(KEYS, key=likeness)


def base() -> ConfigDict:
  """The defaults as a ConfigDict, where a recipe starts; nothing may be added to it but a mapping's entries."""
  config = ConfigDict(dataclasses.asdict(Experiment()), sort_keys=False).lock()
  for key in KEYS.values():
    if key.kind is dict:
      group, _, name = key.name.rpartition(".")
      config[group][name].unlock()
  return config


def derive(experiment: str, name: str) -> ConfigDict:
  """The config of the recipe `name` that lies beside the file `experiment`: what a variant starts from.

    c = derive(__file__, "quickstart")

  Raises:
    UserError: there is no such recipe.
  """
  return load(Path(experiment).with_name(f"{name}.py"))


def load(path: Path, *hardware: str) -> ConfigDict:
  """What `get_config(*hardware)` of an experiment file returns.

  Raises:
    UserError: there is no such file, or it is not usable.
  """
  if not path.is_file():
    raise UserError("no such config file", where=path, remedy="see the folder configs/")
  try:
    spec = importlib.util.spec_from_file_location("skymath_experiment", path)
    if spec is None or spec.loader is None:
      raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: ConfigDict = module.get_config(*hardware)
    return found
  except (AttributeError, KeyError, TypeError, SyntaxError, ImportError) as error:
    what = f"not a usable experiment file ({' '.join(str(error).split()).rstrip('.')})"
    raise UserError(what, where=path, remedy="see the folder configs/") from None


def resolve(config: ConfigDict) -> Experiment:
  """The experiment that a ConfigDict describes.

  Raises:
    UserError: an unknown or missing key, or a bad value; the key is named, and the nearest one or what is allowed.
  """
  values = flatten(config)
  found = {name: find(name).checked(value) for name, value in values.items()}
  if missing := KEYS.keys() - values.keys():
    raise UserError("the config lacks a key", where=f"config.{min(missing)}", remedy="start get_config() from base()")
  experiment: Experiment = built(Experiment(), found)
  training = experiment.training
  if training.rows % training.micro_batches:
    raise UserError(
      f"{training.rows} rows do not split into {training.micro_batches} micro-batches",
      where="config.training.micro_batches",
      remedy="choose a divisor of config.training.rows",
    )
  return experiment


def changed(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
  """The experiment with other values of some keys, such as {"training.rows": 4}; none is checked."""
  found: Experiment = built(experiment, {**flatten(experiment), **changes})
  return found


def stored(values: Mapping[str, Any], *, where: Any) -> Experiment:
  """The experiment that `as_json` wrote, perhaps by an older version: a key that is new has its default.

  Raises:
    UserError: it holds a key that there is no more, or a value that makes no sense now.
  """
  flat = {name: tuple(value) if isinstance(value, list) else value for name, value in flatten(values).items()}
  try:
    known = {name: find(name).checked(value) for name, value in flat.items()}
  except UserError as error:
    raise UserError(
      f"made by another version of skymath, with the key {error.where} ({error.what})",
      where=where,
      remedy="go on with the version that made it, or copy seeds/, synthesis/ and sft/ into a new --workdir",
    ) from None
  found: Experiment = built(Experiment(), {name: key.default for name, key in KEYS.items()} | known)
  return found


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
  """{"training.rows": 8, …} of a ConfigDict, an experiment or its JSON values; a mapping's entries stay together."""
  if dataclasses.is_dataclass(values):
    values = {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}
  flat: dict[str, Any] = {}
  for key, value in values.items():
    name = f"{prefix}{key}"
    nested = isinstance(value, Mapping | ConfigDict) or dataclasses.is_dataclass(value)
    if nested and not (name in KEYS and KEYS[name].kind is dict):
      flat |= flatten(value, f"{name}.")
    else:
      flat[name] = value
  return flat


def bound(experiment: Experiment, *names: str) -> dict[str, Any]:
  """Key → JSON value of what may not change while something that was made with it is kept: all but the free keys.

  Args:
    experiment: resolved.
    names: keys and sections (`seeds`, `training.stage1`, `synthesis.pass1`); all without any.

  Raises:
    KeyError: a name is neither.
  """
  flat = flatten(experiment)
  found: dict[str, Any] = {}
  for name in names or ("",):
    below = {key: flat[key] for key in KEYS if not name or key == name or key.startswith(f"{name}.")}
    if not below:
      raise KeyError(f"{name} is neither a key nor a section of the config")
    found |= {key: value for key, value in below.items() if not KEYS[key].free}
  return _json(found)


def as_json(experiment: Experiment) -> dict[str, Any]:
  """The experiment as nested JSON values."""
  return _json(dataclasses.asdict(experiment))


def _json(values: dict[str, Any]) -> dict[str, Any]:
  """Tuples as lists, as they come back from a file."""
  found: dict[str, Any] = json.loads(json.dumps(values))
  return found


def config_hash(experiment: Experiment) -> str:
  """`HASH_DIGITS` hex digits over all keys and values."""
  return integrity.checksum(as_json(experiment))[:HASH_DIGITS]
