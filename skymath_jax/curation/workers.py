"""Who examines and writes: this process, further ones on this machine, or those of a Ray cluster.

Whoever it is has the rules (`RULES`), made once, and gives the results in the order of the tasks. Files must be where
all of them see them.
"""

import itertools
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Literal, Protocol, get_args

from skymath_jax.console import log
from skymath_jax.curation import rules
from skymath_jax.curation.settings import Settings
from skymath_jax.errors import UserError

Runner = Literal["local", "ray"]
RUNNER_VARIABLE = "SKYMATH_RUNNER"  # environment variable that names one: whose processes work changes no result
RULES: list[rules.Rule] = []  # of a worker process: what it was started with
RETRIES = 3  # of a task whose machine is lost, and of a process that is started again


class Workers(Protocol):
  """What is common to them; a context manager."""

  def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterable[Any]: ...
  def __enter__(self) -> "Workers": ...
  def __exit__(self, *_: object) -> None: ...


def workers(runner: str, count: int, settings: Settings, test_sets: rules.TestSets, *, small: bool) -> Workers:
  """The workers that `runner` names.

  Args:
    runner: local | ray.
    count: of processes; 0 = one for each core, in the whole cluster where there is one.
    settings, test_sets: what the rules are made of.
    small: whether starting processes takes longer than the work.

  Raises:
    UserError: there is no such runner, or Ray is not installed.
  """
  if runner not in (known := get_args(Runner)):
    raise UserError(f"{runner!r} is not known", where="runner", remedy=f"use one of: {', '.join(known)}")
  if runner == "ray":
    return RayWorkers(count, settings, test_sets)
  return LocalWorkers(1 if small and not count else count or os.cpu_count() or 1, settings, test_sets)


def _begin(settings: Settings, test_sets: rules.TestSets) -> None:
  RULES.extend(itertools.chain(*rules.by_step(settings, test_sets).values()))


class LocalWorkers:
  """`count` processes, or this one alone.

  Raises:
    UserError: `settings` name a filter that there is not.
  """

  def __init__(self, count: int, settings: Settings, test_sets: rules.TestSets):
    self._count = count
    self._arguments = (settings, test_sets)
    self._pool: ProcessPoolExecutor | None = None

  def __enter__(self) -> "LocalWorkers":
    if self._count > 1:
      context = multiprocessing.get_context("spawn")  # a fork would copy the threads of JAX and gRPC
      self._pool = ProcessPoolExecutor(self._count, context, _begin, self._arguments)
    else:
      _begin(*self._arguments)
    return self

  def __exit__(self, *_: object) -> None:
    if self._pool is not None:
      self._pool.shutdown(cancel_futures=True)
    RULES.clear()

  def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterable[Any]:
    """The results in order."""
    return map(function, tasks) if self._pool is None else self._pool.map(function, tasks)


class _Actor:
  """A process of the cluster."""

  def do(self, function: Callable[[Any], Any], task: Any, arguments: list[Any]) -> Any:
    """`arguments` holds a reference to those of `_begin`, for a process that has just begun, perhaps again."""
    if not RULES:
      import ray

      _begin(*ray.get(arguments[0]))
    return function(task)


class RayWorkers:
  """Processes of the Ray cluster that RAY_ADDRESS names, or of one that is begun on this machine.

  What a lost machine had under way is done again by others.

  Raises:
    UserError: Ray is not installed.
  """

  def __init__(self, count: int, settings: Settings, test_sets: rules.TestSets):
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
      import ray
      from ray.util import ActorPool
    except ImportError:
      remedy = "pip install 'skymath-jax[ray]', here and on every machine of the cluster"
      raise UserError("Ray is not installed", where="runner", remedy=remedy) from None
    self._ray, self._actor_pool = ray, ActorPool
    self._count, self._arguments = count, (settings, test_sets)
    self._begun = False
    self._reference: Any = None
    self._actors: list[Any] = []

  def __enter__(self) -> "RayWorkers":
    if not self._ray.is_initialized():
      self._ray.init(log_to_driver=False, logging_level=logging.ERROR)
      self._begun = True
    count = self._count or int(self._ray.cluster_resources().get("CPU", 1))
    log(f"{count} processes on {len(self._ray.nodes())} machines of a Ray cluster")
    actor = self._ray.remote(max_restarts=RETRIES, max_task_retries=RETRIES)(_Actor)
    self._reference = self._ray.put(self._arguments)
    self._actors = [actor.remote() for _ in range(count)]
    return self

  def __exit__(self, *_: object) -> None:
    for actor in self._actors:
      self._ray.kill(actor)
    if self._begun:
      self._ray.shutdown()

  def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
    """The results in order.

    Raises:
      UserError: a task says so.
    """
    pool: Any = self._actor_pool(self._actors)
    try:
      yield from pool.map(lambda actor, task: actor.do.remote(function, task, [self._reference]), tasks)
    except self._ray.exceptions.RayTaskError as error:
      if isinstance(error.cause, UserError):
        raise error.cause from None
      raise
