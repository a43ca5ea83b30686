"""The teacher of a run: a client for each pass, the server process behind it, and the money that it has cost."""

import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterable

from etils import epath

from skymath_jax import chat, distributed, files, models
from skymath_jax import config as config_lib
from skymath_jax.config import Serving
from skymath_jax.console import log
from skymath_jax.engine import plan
from skymath_jax.engine.generator import LocalGenerator
from skymath_jax.engine.types import EngineSettings
from skymath_jax.errors import UserError
from skymath_jax.generation import Generator
from skymath_jax.generation.batch import BatchGenerator, Journal
from skymath_jax.generation.jetstream import TOKEN_VARIABLE, JetStreamGenerator
from skymath_jax.generation.ledger import Ledger
from skymath_jax.generation.limits import Limits
from skymath_jax.generation.openai import OpenAIGenerator, checked_address, checked_key
from skymath_jax.generation.parameters import Parameters
from skymath_jax.generation.vendors import AnthropicBatches, BatchFiles, OpenAIBatches, Vendor
from skymath_jax.server.process import ServerProcess
from skymath_jax.synthesis import ResponseStore

BATCHES = "synthesis/batches.jsonl"  # what was submitted to a vendor's batches
LEDGER = "synthesis/unanswered.json"  # tokens that may be charged though no answer to them is kept


class Teacher:
  """Starts when it is first needed; a context manager that ends what it has started.

  Args:
    config: who it is.
    serving: how a server, or an engine in this process, serves it, at most.
    dtype: in which such a one computes.
    folder: of the run: the server's log goes there, and what is stored there tells the money spent.
    keep: called with the name of a file in it that tells what may be charged, when that has changed.
  """

  def __init__(
    self,
    config: config_lib.Teacher,
    serving: Serving,
    dtype: str,
    folder: epath.PathLike,
    keep: Callable[[str], None] = lambda name: None,
  ):
    self._config = config
    self._dtype = dtype
    self._serving = serving
    self._folder = epath.Path(folder)
    self._keep = keep
    self._server: ServerProcess | None = None
    self._served = 0  # requests of stages that are finished

  def __enter__(self) -> "Teacher":
    return self

  def __exit__(self, *_: object) -> None:
    self.stop()

  def start(self) -> None:
    """Starts a server in the background, where one is wanted, so that it compiles while the seeds are read."""
    config = self._config
    started_here = config.backend == "jetstream" and not config.addresses and distributed.is_writer()
    if started_here and self._server is None:
      serving = dataclasses.replace(self._serving, slots=min(self._serving.slots, config.concurrency))
      command = [sys.executable, "-m", "skymath_jax.cli", "serve", f"--model={config.model}", f"--dtype={self._dtype}"]
      command += [f"--{key}={value}" for key, value in dataclasses.asdict(serving).items()]
      log_path = os.fspath(self._folder / "server.log")
      self._server = ServerProcess([*command, "--port=0", "--exit_with_parent"], log_path=log_path)

  def stop(self) -> None:
    """Stops the server, if this run started one."""
    if self._server is not None:
      self._server.stop()
      self._server = None
      self._served = 0

  def client(self) -> Generator:
    """A client of the teacher; a server started here is healthy by the time it is returned.

    Raises:
      UserError: the model cannot be read, or the server does not become healthy in time.
    """
    backends: dict[str, Callable[[], Generator]] = {
      "openai": self._endpoint,
      "batch": self._batches,
      "local": self._in_process,
      "jetstream": self._jetstream,
    }
    return backends[self._config.backend]()

  def _endpoint(self) -> OpenAIGenerator:
    client = endpoint_of(self._config, chat=self._config.chat != "raw")
    client.meter.ledger = Ledger(self._folder / LEDGER, client.model_id, functools.partial(self._keep, LEDGER))
    lost = client.meter.limits.cost(*client.meter.ledger.lost)
    if lost:
      log(f"{self._folder / LEDGER}: {lost:,.2f} may have been charged for requests without an answer, and counts")
    client.meter.spent = self._spent(client) + lost
    return client

  def _batches(self) -> BatchGenerator:
    config, parameters = self._config, Parameters.from_json(self._config.parameters)
    client = BatchGenerator(
      vendor_of(config, parameters),
      config.model,
      Journal(self._folder / BATCHES, functools.partial(self._keep, BATCHES)),
      concurrency=config.concurrency,
      chat=config.chat != "raw",
      parameters=parameters,
      limits=limits_of(config),
    )
    client.meter.spent = self._spent(client)
    return client

  def _in_process(self) -> LocalGenerator:
    config = self._config
    most = EngineSettings(**dataclasses.asdict(self._serving))
    decoder, tokenizer, settings = plan.load(config.model, most, dtype=self._dtype, requests=config.concurrency)
    encode = chat.question_encoder(tokenizer, config.chat)
    return LocalGenerator(decoder, tokenizer, models.model_id(config.model), settings, encode=encode)

  def _jetstream(self) -> JetStreamGenerator:
    config = self._config
    decoder_id = models.model_id(config.model)
    self.start()
    addresses = addresses_of(config.addresses)
    if self._server is not None:
      self._server.wait_until_ready(config.start_seconds)
      addresses = [self._server.address]
    tokenizer = models.tokenizer_of(config.model)
    return JetStreamGenerator(
      addresses,
      tokenizer,
      decoder_id,
      concurrency=config.concurrency,
      certificate=config.certificate,
      token=os.environ.get(TOKEN_VARIABLE, "").strip(),
      encode=chat.question_encoder(tokenizer, config.chat),
    )

  def _spent(self, client: OpenAIGenerator | BatchGenerator) -> float:
    """Money that all answers in this workdir have cost."""
    total = 0.0
    for path in files.matching(self._folder, "synthesis/*/responses.sqlite"):
      with ResponseStore(path) as store:
        total += client.meter.limits.cost(*store.tokens_of(client.model_id))
    return total

  def requests_served(self) -> int:
    """Requests that this run's server completed since the last call, by its own count; 0 if the run started none."""
    if self._server is None:
      return 0
    total = int(self._server.counters()["requests_completed"])
    served = total - self._served
    self._served = total
    return served


def require_nothing_secret(config: config_lib.Teacher) -> None:
  """Looks for keys in what names the endpoint, before the config is written into a workdir, which others may read.

  Raises:
    UserError: there is one; its value is not shown.
  """
  Parameters.from_json(config.parameters)
  checked_key(config.api_key_variable)
  if "://" in config.base_url:
    checked_address(config.base_url)


def limits_of(config: config_lib.Teacher) -> Limits:
  """Rates, prices and the cost ceiling of a paid endpoint."""
  return Limits(**{field.name: getattr(config, field.name) for field in dataclasses.fields(Limits)})


def endpoint_of(config: config_lib.Teacher, *, chat: bool) -> OpenAIGenerator:
  """A client of `base_url`, which has spent nothing yet; `chat` asks in the endpoint's own chat template.

  Raises:
    UserError: the address, the key or the parameters make no sense.
  """
  return OpenAIGenerator(
    config.base_url,
    config.model,
    api_key_variable=config.api_key_variable,
    concurrency=config.concurrency,
    chat=chat,
    parameters=Parameters.from_json(config.parameters),
    limits=limits_of(config),
  )


def vendor_of(config: config_lib.Teacher, parameters: Parameters) -> Vendor:
  """Where the batches go.

  Raises:
    UserError: there is no address, or no folder for files.
  """
  where, chat = config.base_url, config.chat != "raw"
  if not where:
    raise UserError(
      "batches want an address", where="teacher.base_url", remedy="give the endpoint, or a folder for dialect files"
    )
  if parameters.dialect == "files":
    return BatchFiles(where, chat=chat)
  address, key = checked_address(where), checked_key(config.api_key_variable)
  return AnthropicBatches(address, key) if parameters.dialect == "anthropic" else OpenAIBatches(address, key, chat=chat)


def addresses_of(listed: Iterable[str]) -> list[str]:
  """`host:port` of each replica; `@FILE` stands for the lines of a file, local or gs://, such as tpu_scripts writes.

  Raises:
    UserError: there is no such file.
  """
  found: list[str] = []
  for address in listed:
    if address.startswith("@"):
      path = epath.Path(address[1:])
      if not path.exists():
        raise UserError("no such file of addresses", where=path, remedy="start the replicas (tpu_scripts/serve)")
      found += path.read_text().split()
    else:
      found.append(address)
  return found
