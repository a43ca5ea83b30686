"""What the stages of one run share."""

import dataclasses
import os
import sys
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from skymath_jax import models
from skymath_jax import tokenizer as tokenizer_lib
from skymath_jax.generation import Generator
from skymath_jax.generation.jetstream import TOKEN_VARIABLE, JetStreamGenerator
from skymath_jax.generation.limits import Limits
from skymath_jax.generation.openai import OpenAIGenerator
from skymath_jax.serving.local import LocalGenerator
from skymath_jax.serving.process import ServerProcess

Facts = dict[str, Any]


class Run:
  """What the stages of one run share: the config, the workdir, and a teacher that starts when it is first needed."""

  def __init__(self, config: ConfigDict, workdir: epath.Path):
    self.config, self.workdir = config, workdir
    self._server: ServerProcess | None = None
    self._served = 0  # requests of stages that are finished

  def __enter__(self) -> "Run":
    return self

  def __exit__(self, *_: object) -> None:
    self.end_teacher()

  def begin_teacher(self) -> None:
    """Starts the teacher's server in the background, so that it compiles while the seeds are read."""
    teacher = self.config.teacher
    if teacher.backend == "jetstream" and not teacher.addresses and self._server is None:
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
      return OpenAIGenerator(
        teacher.base_url,
        teacher.model,
        api_key_variable=teacher.api_key_variable,
        concurrency=teacher.concurrency,
        limits=Limits(**{field.name: teacher[field.name] for field in dataclasses.fields(Limits)}),
      )
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
    addresses = list(teacher.addresses)
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

  def requests_served(self) -> int:
    """Requests that this run's server completed since the last call, by its own count; 0 if the run started none."""
    if self._server is None:
      return 0
    total = int(self._server.counters()["requests_completed"])
    served, self._served = total - self._served, total
    return served
