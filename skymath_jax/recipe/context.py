"""What the stages of one run share."""

import dataclasses
import os
import sys
from collections.abc import Iterable

from etils import epath
from ml_collections import ConfigDict

from skymath_jax import distributed, models
from skymath_jax import tokenizer as tokenizer_lib
from skymath_jax.engine.generator import LocalGenerator
from skymath_jax.errors import UserError
from skymath_jax.generation import Generator
from skymath_jax.generation.jetstream import TOKEN_VARIABLE, JetStreamGenerator
from skymath_jax.generation.limits import Limits
from skymath_jax.generation.openai import OpenAIGenerator
from skymath_jax.mirror import Mirror
from skymath_jax.server.process import ServerProcess
from skymath_jax.synthesis import ResponseStore


class Run:
  """What the stages of one run share: the config, the workdir, and a teacher that starts when it is first needed.

  `workdir` is on a file system: of a workdir in a bucket it is this process's local copy. Training's checkpoints lie in
  `checkpoints`, which all processes of a job share.
  """

  def __init__(self, config: ConfigDict, mirror: Mirror):
    self.config, self.mirror, self.workdir = config, mirror, mirror.local
    self.checkpoints = mirror.durable / "checkpoints"
    self._server: ServerProcess | None = None
    self._served = 0  # requests of stages that are finished
    self._paid: OpenAIGenerator | None = None  # the last client of a paid endpoint

  def __enter__(self) -> "Run":
    return self

  def __exit__(self, *_: object) -> None:
    self.end_teacher()

  def begin_teacher(self) -> None:
    """Starts the teacher's server in the background, so that it compiles while the seeds are read."""
    teacher = self.config.teacher
    started_here = teacher.backend == "jetstream" and not teacher.addresses and distributed.is_writer()
    if started_here and self._server is None:
      command = [sys.executable, "-m", "skymath_jax.cli", "serve", f"--model={teacher.model}", "--port=0"]
      command += [f"--{key}={teacher[key]}" for key in ("slots", "max_length", "steps_per_call")]
      log_path = self.workdir / "server.log"
      self._server = ServerProcess([*command, "--exit_with_parent"], log_path=os.fspath(log_path))

  def end_teacher(self) -> None:
    """Stops the server, if this run started one."""
    if self._server is not None:
      self._server.stop()
      self._server, self._served = None, 0

  def teacher(self) -> Generator:
    """A client of the teacher, healthy by the time it is returned."""
    teacher = self.config.teacher
    if teacher.backend == "openai":
      client = OpenAIGenerator(
        teacher.base_url,
        teacher.model,
        api_key_variable=teacher.api_key_variable,
        concurrency=teacher.concurrency,
        limits=Limits(**{field.name: teacher[field.name] for field in dataclasses.fields(Limits)}),
      )
      client.meter.spent = self._spent(client)
      self._paid = client
      return client
    decoder_id = models.model_id(teacher.model)
    if teacher.backend == "local":
      decoder, tokenizer = models.load_any(teacher.model)
      return LocalGenerator(
        decoder,
        tokenizer,
        decoder_id,
        slots=teacher.slots,
        max_length=teacher.max_length,
        steps_per_call=teacher.steps_per_call,
      )
    self.begin_teacher()
    addresses = _listed(teacher.addresses)
    if self._server is not None:
      self._server.wait_until_ready(teacher.start_seconds)
      addresses = [self._server.address]
    tokenizer = tokenizer_lib.load(models.resolve(teacher.model))
    return JetStreamGenerator(
      addresses,
      tokenizer,
      decoder_id,
      concurrency=teacher.concurrency,
      certificate=teacher.certificate,
      token=os.environ.get(TOKEN_VARIABLE, ""),
    )

  def _spent(self, client: OpenAIGenerator) -> float:
    """Money that all answers in this workdir have cost; what was paid in vain is known only to the run that did."""
    paths = sorted((self.workdir / "synthesis").glob("*/responses.sqlite"))
    total = 0.0
    for path in paths:
      with ResponseStore(path) as store:
        total += client.meter.limits.cost(*store.tokens_of(client.model_id))
    return max(total, self._paid.meter.spent if self._paid is not None else 0.0)

  def requests_served(self) -> int:
    """Requests that this run's server completed since the last call, by its own count; 0 if the run started none."""
    if self._server is None:
      return 0
    total = int(self._server.counters()["requests_completed"])
    served, self._served = total - self._served, total
    return served


def _listed(addresses: Iterable[str]) -> list[str]:
  """`host:port` of each replica; `@FILE` stands for the lines of a file, local or gs://, such as tpu_scripts writes."""
  found: list[str] = []
  for address in addresses:
    if address.startswith("@"):
      path = epath.Path(address[1:])
      if not path.exists():
        raise UserError("no such file of addresses", where=path, remedy="start the replicas (tpu_scripts/serve)")
      found += path.read_text().split()
    else:
      found.append(address)
  return found
