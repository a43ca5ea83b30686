"""Every key of an experiment: its default, its type, and (the trailing comment) one line of documentation.

An experiment is a file in `configs/` whose `get_config()` starts from `base()` and sets what differs. Nothing below
`stages.py` and `cli.py` sees the ConfigDict; rooms take plain arguments.
"""

import difflib
import functools
import hashlib
import importlib.util
import inspect
import json
import re
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from skymath_jax.errors import UserError


def base() -> ConfigDict:
  """The paper's recipe (Skywork-Math section 4.1.3; gaps filled as method notes say), unlocked for nothing new."""
  c = ConfigDict()
  c.name = "unnamed"  # shown in the report and the model card
  c.rng_seed = 0  # every random choice of a run derives from it

  c.seeds = ConfigDict()
  c.seeds.sources = ("math",)  # catalog names or JSONL files of seed problems
  c.seeds.limit = 0  # at most so many problems of each source; 0 = all
  c.seeds.data_dir = "~/.cache/skymath/datasets"  # prepared data sets, and DATA_DIR/SOURCE/ for files fetched by hand

  c.teacher = ConfigDict()
  c.teacher.backend = "jetstream"  # jetstream | openai | local
  c.teacher.model = ""  # HF folder, checkpoint folder, asset:NAME, or the endpoint's model name
  c.teacher.addresses = ()  # host:port of running JetStream servers, or @FILE of them; empty = one is started
  c.teacher.base_url = ""  # OpenAI-compatible endpoint, up to and including /v1
  c.teacher.api_key_variable = "OPENAI_API_KEY"  # environment variable that holds the key
  c.teacher.certificate = ""  # PEM file that signs the JetStream servers' TLS certificates; empty = no TLS
  c.teacher.concurrency = 512  # requests in flight at most
  c.teacher.requests_per_minute = 0.0  # an endpoint's rate limit; 0 = none
  c.teacher.tokens_per_minute = 0.0  # an endpoint's rate limit, prompt and response together; 0 = none
  c.teacher.price_in = 0.0  # money for a million prompt tokens of a paid endpoint
  c.teacher.price_out = 0.0  # money for a million response tokens of a paid endpoint
  c.teacher.cost_ceiling = 0.0  # most money that a workdir's answers may cost, resumed runs included; 0 = no ceiling
  c.teacher.slots = 128  # sequences decoded at once by a server that `run` starts
  c.teacher.max_length = 4096  # prompt + response tokens a slot can hold
  c.teacher.steps_per_call = 16  # decode steps per host call
  c.teacher.start_seconds = 900  # how long a server may take to become healthy

  c.synthesis = ConfigDict()
  c.synthesis.temperature = 0.7  # of the teacher (Skywork section 3, footnote 1)
  c.synthesis.top_p = 1.0  # nucleus of the teacher's sampling
  c.synthesis.max_tokens = 2048  # of one teacher response
  c.synthesis.evol_steps = 5  # longest chain of evolutions (Skywork section 3.1)
  c.synthesis.evol_elimination = True  # drop evolutions by the four WizardLM rules
  c.synthesis.prompts = "plain"  # plain | few_shot: with worked examples in the style of the problem (math or word)
  c.synthesis.samples = 1  # responses to each query
  c.synthesis.judge = ()  # labels that the teacher gives each instance, of verdict, difficulty
  c.synthesis.coreset_size = 7500  # problems selected by k-center between pass 1 and pass 2
  c.synthesis.embedding = "hashed"  # of the selection: hashed | model (the base model) | sentence-transformers:NAME
  c.synthesis.hard_levels = (4, 5)  # levels of the stage-2 seed problems (Skywork section 3.2)
  c.synthesis.pass1 = ConfigDict()
  c.synthesis.pass1.answer_augmentation = 9.0  # runs per seed problem in stage 1, pass 1
  c.synthesis.pass1.rephrase = 9.0  # runs per seed problem in stage 1, pass 1
  c.synthesis.pass1.self_verification = 9.0  # runs per seed problem in stage 1, pass 1
  c.synthesis.pass1.fobar = 9.0  # runs per seed problem in stage 1, pass 1
  c.synthesis.pass1.evol = 14.0  # chains per seed problem in stage 1, pass 1
  c.synthesis.pass1.xwin = 35.0  # runs per seed problem in stage 1, pass 1
  c.synthesis.pass2 = ConfigDict()
  c.synthesis.pass2.answer_augmentation = 9.0  # runs per selected problem in stage 1, pass 2
  c.synthesis.pass2.rephrase = 9.0  # runs per selected problem in stage 1, pass 2
  c.synthesis.pass2.self_verification = 9.0  # runs per selected problem in stage 1, pass 2
  c.synthesis.pass2.fobar = 9.0  # runs per selected problem in stage 1, pass 2
  c.synthesis.pass2.evol = 14.0  # chains per selected problem in stage 1, pass 2
  c.synthesis.pass2.xwin = 35.0  # runs per selected problem in stage 1, pass 2
  c.synthesis.hard = ConfigDict()
  c.synthesis.hard.answer_augmentation = 6.25  # runs per hard seed problem in stage 2
  c.synthesis.hard.rephrase = 6.25  # runs per hard seed problem in stage 2
  c.synthesis.hard.self_verification = 6.25  # runs per hard seed problem in stage 2
  c.synthesis.hard.fobar = 6.25  # runs per hard seed problem in stage 2
  c.synthesis.hard.evol = 10.0  # chains per hard seed problem in stage 2
  c.synthesis.hard.xwin = 25.0  # runs per hard seed problem in stage 2

  c.curation = ConfigDict()
  c.curation.inputs = ()  # JSONL files to curate on their own; empty = what synthesis left in the workdir
  c.curation.test_sets = ("math:test", "gsm8k:test")  # catalog names or JSONL files that must not leak
  c.curation.ngram = 30  # whitespace words shared with a test item that make a leak (Skywork section 4.3.7)
  c.curation.near_duplicate = 0.8  # Jaccard similarity of word 3-grams from which a query is a near-duplicate
  c.curation.fuzzy = 0.0  # likeness to a test question from which a query is a leak (stories 0.35, MATH 0.7); 0 = off
  c.curation.quality = ()  # filters, of gold, majority, verdict; empty = keep all, as the paper does (section 3.2)
  c.curation.hard = 0.0  # share of the queries that is kept, hardest first; 0 = all
  c.curation.responses_per_query = 0  # at most so many responses to one query; 0 = no limit
  c.curation.parquet = False  # also write the kept rows as Parquet
  c.curation.workers = 0  # processes; 0 = one a core, none for small data

  c.model = ConfigDict()
  c.model.path = ""  # base model: HF folder, checkpoint folder, asset:NAME; empty = from scratch
  c.model.dtype = "bfloat16"  # of compute
  c.model.param_dtype = "float32"  # of master weights and Adam's second moment; bfloat16 halves them, for one GPU
  c.model.scan_layers = True  # one compiled layer for all (fast to compile); False is faster to run on CPU
  c.model.remat = "names"  # none | wide | names | full: the backward pass recomputes nothing, little, more, all
  c.model.scratch = ConfigDict()
  c.model.scratch.embed = 128  # width, when training from scratch
  c.model.scratch.layers = 4  # depth, when training from scratch
  c.model.scratch.heads = 4  # query heads, when training from scratch
  c.model.scratch.kv_heads = 2  # key and value heads, when training from scratch
  c.model.scratch.mlp = 384  # inner width, when training from scratch
  c.model.scratch.tokenizer = ""  # folder whose tokenizer to use; empty = train one on the data
  c.model.scratch.vocab_size = 896  # of the SentencePiece vocabulary trained on the data

  c.training = ConfigDict()
  c.training.data = ""  # SFT folder or catalog text set for `train` on its own; empty = sft/STAGE of the workdir
  c.training.examples = 0  # how many examples to draw from a generated text set
  c.training.template = "sft/alpaca"  # prompt frame of training and evaluation
  c.training.max_length = 2048  # tokens of a packed row
  c.training.rows = 8  # packed rows an optimizer step (about 32 paper examples)
  c.training.micro_batches = 1  # parts of a step that are computed one after another
  c.training.packed = True  # False gives each example a row of its own: the same steps, slower, for comparison
  c.training.optimizer = "adamw"  # the optimizer's name
  c.training.warmup_ratio = 0.03  # share of the steps with rising learning rate
  c.training.schedule = "cosine"  # cosine | linear | constant, after warm-up
  c.training.beta1 = 0.9  # Adam's decay of the first moment
  c.training.beta2 = 0.999  # Adam's decay of the second moment
  c.training.epsilon = 1e-8  # Adam's denominator floor
  c.training.weight_decay = 0.0  # none in the paper; norms, biases and embeddings never decay
  c.training.clip = 1.0  # global gradient norm
  c.training.mu_dtype = "float32"  # of Adam's first moment
  c.training.loss_weighting = "token"  # token | example
  c.training.loss_chunk = 2048  # loss-bearing tokens whose logits exist at one time
  c.training.checkpoint_every = 500  # steps
  c.training.keep = 2  # newest checkpoints
  c.training.keep_best = False  # also the checkpoint with the lowest loss on the held-out examples
  c.training.held_out = 0  # examples kept out of training; their loss is measured at every checkpoint
  c.training.profile_step = 0  # first of five steps whose profile is written; 0 = none
  c.training.stage1 = ConfigDict()
  c.training.stage1.learning_rate = 2e-6  # peak
  c.training.stage1.epochs = 3  # over the stage-1 set
  c.training.stage2 = ConfigDict()
  c.training.stage2.learning_rate = 2e-6  # peak
  c.training.stage2.epochs = 3  # over the stage-2 set

  c.mesh = ConfigDict()
  c.mesh.data = 1  # devices that hold copies of the parameters
  c.mesh.fsdp = -1  # devices that share the parameters; -1 = all that are left
  c.mesh.tensor = 1  # devices that split each matrix

  c.evaluation = ConfigDict()
  c.evaluation.benchmarks = ("math:test", "gsm8k:test")  # catalog names or JSONL files
  c.evaluation.models = ("base", "stage1", "stage2")  # which models of the run are evaluated
  c.evaluation.limit = 0  # at most so many problems a benchmark; 0 = all
  c.evaluation.mode = "strict"  # strict (the paper's string grader) | symbolic
  c.evaluation.samples = 1  # responses to each problem; several need a temperature and give pass@k and maj@k
  c.evaluation.temperature = 0.0  # 0 = greedy, as the paper's grader script
  c.evaluation.max_tokens = 2048  # of one response
  c.evaluation.slots = 128  # sequences decoded at once
  c.evaluation.max_length = 4096  # prompt + response tokens a slot can hold
  c.evaluation.steps_per_call = 16  # decode steps per host call

  c.study = ConfigDict()
  c.study.sizes = (7_500, 60_000, 360_000, 1_000_000, 2_100_000)  # stage-1 instances; the fit does not see the largest
  c.study.rng_seeds = 3  # how many times each cell is made, with RNG seeds 0, 1, ...
  c.study.ablations = ("methods", "verifier", "coreset", "hard", "order", "ngram", "length")  # see study/ablations.py
  c.study.ablation_size = 360_000  # instances of each set that an ablation compares
  c.study.keep_checkpoints = False  # keep the weights of every cell, not only what it answered

  c.export = ConfigDict()
  c.export.dtype = "bfloat16"  # of the exported weights
  c.export.prompts = 32  # prompts on which logits are compared before an export counts as done
  c.export.tolerance = 1e-4  # largest float32 logit difference allowed
  return c.lock()


def derive(experiment: str, name: str) -> ConfigDict:
  """The config of the recipe `name` that lies beside the file `experiment`: what a hardware variant starts from.

    c = derive(__file__, "skywork_llama2_7b")

  Raises:
    UserError: there is no such recipe.
  """
  path = Path(experiment).with_name(f"{name}.py")
  if not path.is_file():
    raise UserError("no such recipe", where=path, remedy="see the folder configs/")
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config()


CHOICES = {
  "teacher.backend": ("jetstream", "openai", "local"),
  "synthesis.prompts": ("plain", "few_shot"),
  "synthesis.judge": ("verdict", "difficulty"),
  "curation.quality": ("gold", "majority", "verdict"),
  "model.dtype": ("float32", "bfloat16"),
  "model.param_dtype": ("float32", "bfloat16"),
  "model.remat": ("none", "wide", "names", "full"),
  "training.optimizer": ("adamw",),
  "training.schedule": ("cosine", "linear", "constant"),
  "training.mu_dtype": ("float32", "bfloat16"),
  "training.loss_weighting": ("token", "example"),
  "evaluation.mode": ("strict", "symbolic"),
  "export.dtype": ("float32", "bfloat16"),
}
# What says where and how often, not what: a run may go on with other values, on another machine
FREE = frozenset(
  {f"training.{key}" for key in "micro_batches loss_chunk checkpoint_every keep keep_best profile_step".split()}
  | {f"teacher.{key}" for key in "addresses base_url api_key_variable certificate start_seconds".split()}
  | {f"teacher.{key}" for key in "concurrency requests_per_minute tokens_per_minute slots steps_per_call".split()}
  | {f"teacher.{key}" for key in "price_in price_out cost_ceiling".split()}
  | {"evaluation.slots", "evaluation.steps_per_call", "curation.workers"}
  | {"name", "model.remat", "mesh.data", "mesh.fsdp", "mesh.tensor"}
)
NEGATIVE_ALLOWED = {"mesh.data", "mesh.fsdp", "mesh.tensor"}
ZERO_REFUSED = re.compile(
  r"(slots|max_length|max_tokens|steps_per_call|concurrency|rows|micro_batches|keep|ngram|samples)$"
)


def flatten(config: ConfigDict) -> dict[str, Any]:
  """{"training.rows": 8, …}, in the order of `base`."""
  flat = {}
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      flat |= {f"{key}.{inner}": v for inner, v in flatten(value).items()}
    else:
      flat[key] = value
  return flat


@functools.cache
def documentation() -> dict[str, str]:
  """Key → its one line of documentation, read from the trailing comments of `base`."""
  pattern = re.compile(r"^  c\.([\w.]+) = .*?  # (.+)$", re.MULTILINE)
  return dict(pattern.findall(inspect.getsource(base)))


def nearest(key: str) -> str:
  """The known key most like `key`: the last part of the name counts as much as the whole."""

  def likeness(known: str) -> float:
    ends = difflib.SequenceMatcher(None, key.rpartition(".")[2], known.rpartition(".")[2])
    return ends.ratio() + difflib.SequenceMatcher(None, key, known).ratio()

  return max(flatten(base()), key=likeness)


def check(config: ConfigDict) -> None:
  """Refuses unknown keys and bad values.

  Raises:
    UserError: names the key, and the nearest valid name or the values allowed.
  """
  defaults = flatten(base())
  for key, value in flatten(config).items():
    if key not in defaults:
      raise UserError("no such key", where=f"config.{key}", remedy=f"did you mean config.{nearest(key)}?")
    _check_value(key, value, defaults[key])
  missing = defaults.keys() - flatten(config).keys()
  if missing:
    raise UserError("the config lacks a key", where=f"config.{min(missing)}", remedy="start get_config() from base()")
  if config.training.rows % config.training.micro_batches:
    raise UserError(
      f"{config.training.rows} rows do not split into {config.training.micro_batches} micro-batches",
      where="config.training.micro_batches",
      remedy="choose a divisor of config.training.rows",
    )


def _check_value(key: str, value: Any, default: Any) -> None:
  where = f"config.{key}"
  wanted = float if isinstance(default, float) else type(default)
  right = isinstance(value, (int, float) if wanted is float else wanted)
  if not right or (isinstance(value, bool) and wanted is not bool):
    raise UserError(f"{value!r} is not of type {wanted.__name__}", where=where, remedy=f"e.g. {default!r}")
  for chosen in value if isinstance(value, tuple) else (value,):
    if key in CHOICES and chosen not in CHOICES[key]:
      raise UserError(f"{chosen!r} is not known", where=where, remedy=f"use one of: {', '.join(CHOICES[key])}")
  if isinstance(value, int | float) and not isinstance(value, bool):
    if value < 0 and key not in NEGATIVE_ALLOWED:
      raise UserError(f"{value!r} is negative", where=where, remedy="give zero or more")
    if value == 0 and ZERO_REFUSED.search(key):
      raise UserError("zero makes no sense here", where=where, remedy=f"give one or more; the default is {default!r}")
  if isinstance(value, tuple):
    element = type(default[0]) if default else str
    if not all(isinstance(v, element) and not isinstance(v, bool) for v in value):
      raise UserError(f"{value!r} holds something that is not {element.__name__}", where=where, remedy="mend the tuple")


def binding(resolved: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  """A resolved config (of `as_json`) as dotted keys without the free ones: what the runs of a workdir must share."""
  flat: dict[str, Any] = {}
  for key, value in resolved.items():
    name = f"{prefix}{key}"
    if isinstance(value, dict):
      flat |= binding(value, f"{name}.")
    elif name not in FREE:
      flat[name] = value
  return flat


def as_json(config: ConfigDict) -> dict[str, Any]:
  """The resolved config as nested JSON values."""
  return json.loads(json.dumps(config.to_dict()))


def config_hash(config: ConfigDict) -> str:
  """16 hex digits over all keys and values."""
  return hashlib.sha256(json.dumps(as_json(config), sort_keys=True).encode()).hexdigest()[:16]


def first_difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> tuple[str, Any, Any] | None:
  """(dotted key, old value, new value) of the first key, in the order of `new`, that differs; None if none does."""
  for key in [*new, *(k for k in old if k not in new)]:
    a, b = (old[key] if key in old else None), (new[key] if key in new else None)
    if isinstance(a, dict) and isinstance(b, dict):
      if found := first_difference(a, b, f"{prefix}{key}."):
        return found
    elif a != b:
      return f"{prefix}{key}", a, b
  return None
