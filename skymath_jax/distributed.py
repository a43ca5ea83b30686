"""Several processes that are one job: joining it, agreeing on what it is, one writer, waits with a name and an end.

Every process of a job runs the same command. `initialize` joins the job that the environment describes, or does
nothing where it describes none, and the rest is harmless in a job of one::

  distributed.initialize()
  distributed.require_agreement("the run", {"config_hash": "ab12…", "code": distributed.code_version()})
  if distributed.is_writer():
    files.write_json(path, facts)
  distributed.barrier("facts are written", seconds=60)

A job is described by JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID, by the
launchers that JAX knows (Slurm, Open MPI, GKE's TPU jobs), or on a Cloud TPU slice of several hosts by
SKYMATH_DISTRIBUTED=1, which lets JAX ask the metadata server. SKYMATH_JOIN_SECONDS bounds the wait for the others.
"""

import collections
import hashlib
import json
import math
import os
import socket
import time
from pathlib import Path
from typing import Any

import jax
from jax._src import distributed as jax_distributed  # the client that JAX keeps has no public name

from skymath_jax.console import log
from skymath_jax.errors import LostProcessError, UserError
from skymath_jax.keys import first_difference

COORDINATOR, PROCESSES, PROCESS = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
ASK_JAX = "SKYMATH_DISTRIBUTED"
JOIN_SECONDS = 900  # a cold slice: images are pulled and packages installed at different speeds
AGREE_SECONDS = 300
LEAVE_SECONDS = 60  # how long one that has failed waits for the others at the exit, before JAX ends them too
# How often each name was used: every wait needs a key of its own
_calls: collections.Counter[str] = collections.Counter()


def initialize() -> None:
  """Joins the job that the environment describes; call it before any other use of JAX.

  Raises:
    UserError: the description is incomplete, or not all processes came in time.
  """
  if jax.distributed.is_initialized() or not (described := _described()):
    return
  seconds = float(os.environ.get("SKYMATH_JOIN_SECONDS", JOIN_SECONDS))
  if described:
    log(f"waiting for {described['num_processes']} processes at {described['coordinator_address']}")
    if described["process_id"] > 0:
      _wait_for_coordinator(described["coordinator_address"], seconds)
  jax.distributed.initialize(
    **described, initialization_timeout=math.ceil(seconds), shutdown_timeout_seconds=LEAVE_SECONDS
  )
  jax.devices()  # every process must start its devices within two minutes of the others, also one that only waits
  log(f"process {process_index()} of {process_count()}")


def _wait_for_coordinator(address: str, seconds: float) -> None:
  """Returns when somebody listens there: JAX itself would end the process from C++, with no word on what to do."""
  host, _, port = address.rpartition(":")
  limit = time.monotonic() + seconds
  while True:
    try:
      socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
      return
    except (OSError, ValueError) as error:
      if time.monotonic() > limit or isinstance(error, ValueError | socket.gaierror):
        raise LostProcessError(
          f"this process could not join the job within {seconds:g} s ({error})",
          where=address,
          remedy="see whether process 0 runs the same command on that host; SKYMATH_JOIN_SECONDS waits longer",
        ) from None
      time.sleep(0.2)


def _described() -> dict[str, Any] | None:
  """Arguments of `jax.distributed.initialize`, or None for a process on its own."""
  e = os.environ
  if COORDINATOR in e and (PROCESSES in e or PROCESS in e):
    try:
      count, index = int(e[PROCESSES]), int(e[PROCESS])
    except (KeyError, ValueError) as error:
      remedy = f"set {COORDINATOR}, {PROCESSES} and {PROCESS} together, or none of them"
      raise UserError(f"the job is half described ({error})", where="environment", remedy=remedy) from None
    return {"coordinator_address": e[COORDINATOR], "num_processes": count, "process_id": index} if count > 1 else None
  several = (
    "," in e.get("TPU_WORKER_HOSTNAMES", ""),
    int(e.get("SLURM_STEP_NUM_TASKS", "1")) > 1,
    int(e.get("OMPI_COMM_WORLD_SIZE", "1")) > 1,
    e.get(ASK_JAX, "0") == "1",
  )
  return {} if any(several) else None


def process_index() -> int:
  """0 in a job of one; needs no device."""
  return jax_distributed.global_state.process_id


def process_count() -> int:
  """How many processes the job has; needs no device."""
  return jax_distributed.global_state.num_processes or 1


def is_writer() -> bool:
  """Whether this process writes the files of which there must be one: exactly one process of a job does."""
  return process_index() == 0


def barrier(name: str, *, seconds: float) -> None:
  """Returns when every process has come here.

  Raises:
    UserError: some did not come in time; the message names `name`, which says what was being waited for.
  """
  if process_count() == 1:
    return
  _calls[name] += 1
  try:
    client: Any = jax_distributed.global_state.client
    client.wait_at_barrier(f"skymath/{name}/{_calls[name]}", round(seconds * 1000))
  except RuntimeError as error:  # jaxlib's XlaRuntimeError
    raise LostProcessError(
      f"not all {process_count()} processes came to {name!r} within {seconds:,.0f} s ({str(error).splitlines()[0]})",
      where=f"process {process_index()}",
      remedy="look for the first failure in the logs of the other hosts, then run the same command on all of them",
    ) from None


def gather(name: str, value: Any, *, seconds: float = AGREE_SECONDS) -> list[Any]:
  """The JSON `value` of every process, in their order, in every process.

  Raises:
    UserError: some did not give theirs in time.
  """
  if process_count() == 1:
    return [json.loads(json.dumps(value))]
  client: Any = jax_distributed.global_state.client
  _calls[name] += 1
  key = f"skymath/{name}/{_calls[name]}"
  client.key_value_set(f"{key}/{process_index()}", json.dumps(value))
  values = []
  for index in range(process_count()):
    try:
      values.append(json.loads(client.blocking_key_value_get(f"{key}/{index}", round(seconds * 1000))))
    except RuntimeError:
      raise LostProcessError(
        f"process {index} did not say its {name!r} within {seconds:,.0f} s",
        where=f"process {process_index()}",
        remedy="look into the log of that host: it has failed, or runs another command",
      ) from None
  return values


def require_agreement(name: str, facts: dict[str, Any]) -> None:
  """Raises a `UserError` naming the first process, and the first entry, in which it differs from process 0."""
  first, *others = gather(name, facts)
  for index, other in enumerate(others, start=1):
    if found := first_difference(first, other):
      key, ours, theirs = found
      raise UserError(
        f"{key} is {ours!r} on process 0 and {theirs!r} on process {index}",
        where=name,
        remedy="give every host the same command, the same files and the same commit",
      )


def code_version() -> str:
  """16 hex digits over the sources of this package: equal on two hosts only if they run the same code."""
  digest, package = hashlib.sha256(), Path(__file__).parent
  for path in sorted(package.rglob("*.py")):
    digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
  return digest.hexdigest()[:16]
