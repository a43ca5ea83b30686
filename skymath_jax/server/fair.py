"""Whose turn it is: a client that holds much waits behind one that holds little.

A client is an address; each of its calls is somebody, too, so that one request for many choices does not keep other
requests of the same machine waiting.
"""

import collections
import ipaddress
import queue
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from skymath_jax.engine.batching import Job

LOOPBACK = "this machine"


def client_of(address: str) -> str:
  """Who an address stands for, as HTTP or gRPC spells it: one machine is one client, and so is a network of IPv6.

  A machine has as many addresses of its /64 as it likes.
  """
  text = urllib.parse.unquote(address).strip("[]").partition("%")[0]
  try:
    found = ipaddress.ip_address(text)
  except ValueError:
    return text
  if isinstance(found, ipaddress.IPv6Address):
    if found.ipv4_mapped is None:
      return LOOPBACK if found.is_loopback else str(ipaddress.ip_network((found, 64), strict=False))
    found = found.ipv4_mapped
  return LOOPBACK if found.is_loopback else str(found)


class Request(Protocol):
  """What waits."""

  job: Job


class FairQueue(queue.Queue[Any]):
  """A queue of requests whose `get` gives one of the client, and of its call, that has the fewest jobs under way.

  Equals take turns. None, which tells a reader to stop, is read at once.

  Args:
    under_way: the jobs that have had their turn and have not ended.
  """

  def __init__(self, under_way: Callable[[], Iterable[Job]]):
    self._under_way = under_way
    super().__init__()

  def _init(self, maxsize: int) -> None:
    self._ends = 0
    self._count = 0
    self._clients: collections.OrderedDict[str, collections.OrderedDict[str, collections.deque[Request]]] = (
      collections.OrderedDict()
    )

  def _qsize(self) -> int:
    return self._count + self._ends

  def _put(self, item: Request | None) -> None:
    if item is None:
      self._ends += 1
      return
    self._count += 1
    client, call = item.job.owner
    calls = self._clients.setdefault(client, collections.OrderedDict())
    calls.setdefault(call, collections.deque()).append(item)

  def _get(self) -> Request | None:
    if self._ends:
      self._ends -= 1
      return None
    owners = [job.owner for job in self._under_way()]
    client = _first(self._clients, collections.Counter(client for client, _ in owners))
    calls = self._clients[client]
    call = _first(calls, collections.Counter(call for owner, call in owners if owner == client))
    item = calls[call].popleft()
    self._count -= 1
    calls.move_to_end(call)
    self._clients.move_to_end(client)
    if not calls[call]:
      del calls[call]
    if not calls:
      del self._clients[client]
    return item

  def jobs(self) -> list[Job]:
    """The jobs that wait here, for the queue before this one."""
    with self.mutex:
      return [item.job for calls in self._clients.values() for items in calls.values() for item in items]


def _first(waiting: Iterable[str], held: Mapping[str, int]) -> str:
  """The first that holds nothing, else the one that holds least: few can hold anything, so few are looked at."""
  return next((name for name in waiting if not held.get(name)), None) or min(waiting, key=lambda name: held[name])


class Waiting:
  """The jobs that have no slot yet, in the order of their coming, at most `most` of them.

  Not safe for several threads.
  """

  def __init__(self, most: int):
    self._most = most
    self._jobs: dict[int, Job] = {}
    self._by_client: collections.Counter[str] = collections.Counter()
    self._by_call: collections.Counter[tuple[str, str]] = collections.Counter()

  def __len__(self) -> int:
    return len(self._jobs)

  def add(self, job: Job) -> Job | None:
    """Takes a job in, if need be in the place of the newest of whoever has more waiting; returns that one.

    Raises:
      queue.Full: there are too many, and nobody has more of them than this one's owner.
    """
    out = None
    if len(self._jobs) >= self._most:
      out = self._one_too_many(job.owner)
      if out is None:
        raise queue.Full
      self.discard(out)
    self._jobs[id(job)] = job
    self._by_client[job.owner[0]] += 1
    self._by_call[job.owner] += 1
    return out

  def discard(self, job: Job) -> bool:
    """Whether the job was here; now it is not."""
    if self._jobs.pop(id(job), None) is None:
      return False
    client = job.owner[0]
    self._by_client[client] -= 1
    if not self._by_client[client]:
      del self._by_client[client]
    self._by_call[job.owner] -= 1
    if not self._by_call[job.owner]:
      del self._by_call[job.owner]
    return True

  def clear(self) -> list[Job]:
    """Lets all of them go."""
    left = list(self._jobs.values())
    self._jobs.clear()
    self._by_client.clear()
    self._by_call.clear()
    return left

  def _one_too_many(self, newcomer: tuple[str, str]) -> Job | None:
    client = max(self._by_client, key=lambda name: self._by_client[name])
    if self._by_client[client] > self._by_client[newcomer[0]] + 1:
      return next(job for job in reversed(self._jobs.values()) if job.owner[0] == client)
    call = max(self._by_call, key=lambda name: self._by_call[name])
    if self._by_call[call] > self._by_call[newcomer] + 1 and self._by_client[call[0]] >= self._by_client[newcomer[0]]:
      return next(job for job in reversed(self._jobs.values()) if job.owner == call)
    return None
