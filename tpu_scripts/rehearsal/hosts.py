"""Hosts on one Linux machine: network namespaces with an address each, or (without root) plain processes on loopback.

with Hosts(4) as hosts:
  process = hosts.start(2, ["skymath", …], log="host2.log")   # runs on host 2, whose address is hosts.addresses[2]
  hosts.kill(process)                                         # SIGKILL to all that it started
"""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path


class Hosts:
  """`count` hosts on one bridge; a context manager that ends what runs on them and takes the network down."""

  def __init__(self, count: int):
    self.count, self.name = count, f"sm{os.getpid() % 10000}"
    self.namespaces = os.geteuid() == 0 and shutil.which("ip") is not None and self._made()
    subnet = f"10.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
    self.addresses = [f"{subnet}.{host + 10}" if self.namespaces else f"127.0.0.{host + 2}" for host in range(count)]
    self._processes: list[subprocess.Popen] = []
    if self.namespaces:
      for host in range(count):
        self._join(host)

  def _made(self) -> bool:
    return self._ip("link", "add", self.name, "type", "bridge", check=False) == 0

  def _ip(self, *words: str, check: bool = True) -> int:
    return subprocess.run(["ip", *words], check=check, stderr=subprocess.DEVNULL if not check else None).returncode

  def _join(self, host: int) -> None:
    space, outer, inner = f"{self.name}-{host}", f"{self.name}o{host}", f"{self.name}i{host}"
    self._ip("netns", "add", space)
    self._ip("link", "add", outer, "type", "veth", "peer", "name", inner)
    self._ip("link", "set", outer, "master", self.name)
    self._ip("link", "set", outer, "up")
    self._ip("link", "set", self.name, "up")
    self._ip("link", "set", inner, "netns", space)
    self._ip("-n", space, "link", "set", "lo", "up")
    self._ip("-n", space, "addr", "add", f"{self.addresses[host]}/24", "dev", inner)
    self._ip("-n", space, "link", "set", inner, "up")
    # each host has a name of its own that means its address: collective operations on CPUs listen where that points
    etc = Path("/etc/netns") / space
    etc.mkdir(parents=True, exist_ok=True)
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n{self.addresses[host]} host{host}\n")

  def start(self, host: int, command: list[str], *, log: Path, **environment: str) -> subprocess.Popen:
    """Runs `command` on a host, in a process group of its own; its output is added to `log`."""
    named = ["unshare", "--uts", "sh", "-c", f'hostname host{host}; exec "$@"', "sh"]
    inside = ["ip", "netns", "exec", f"{self.name}-{host}", *named] if self.namespaces else []
    with log.open("ab") as output:
      process = subprocess.Popen(
        [*inside, *command],
        env={**os.environ, **environment},
        stdout=output,
        stderr=output,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
      )
    self._processes.append(process)
    return process

  def job(self, command: list[str], *, logs: Path, port: int, **environment: str) -> list[subprocess.Popen]:
    """The same command on all hosts as one `jax.distributed` job, whose coordinator is host 0."""
    processes = []
    for host in range(self.count):
      described = {
        "JAX_COORDINATOR_ADDRESS": f"{self.addresses[0]}:{port}",
        "JAX_NUM_PROCESSES": str(self.count),
        "JAX_PROCESS_ID": str(host),
      }
      processes.append(self.start(host, command, log=logs / f"host{host}.log", **described, **environment))
    return processes

  def kill(self, process: subprocess.Popen) -> None:
    """As when a machine is taken away: SIGKILL to the process and all it started."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()

  def __enter__(self) -> "Hosts":
    return self

  def __exit__(self, *_: object) -> None:
    for process in self._processes:
      self.kill(process)
    if self.namespaces:
      for host in range(self.count):
        self._ip("netns", "del", f"{self.name}-{host}", check=False)
        shutil.rmtree(f"/etc/netns/{self.name}-{host}", ignore_errors=True)
      self._ip("link", "del", self.name, check=False)
