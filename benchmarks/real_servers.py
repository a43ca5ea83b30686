"""A real model behind a server that others wrote, as teacher: all methods, the client killed twice and resumed.

    skymath bench real_servers --server='transformers serve FOLDER --port 8000' --url=http://127.0.0.1:8000/v1 \\
      --model=FOLDER --workdir=DIR [--seeds=50] [--source=gsm8k:train] [--max_tokens=512] [--kills=60,120]

Starts the server, waits until it answers, and runs `skymath synthesize` on the seeds; it is killed (-9) so many seconds
after each start. Rows: answers stored, requests asked twice by the last run (0: all is replayed), instances, the share
of what was made that could be read, and why the rest could not.
"""

import argparse
import contextlib
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skymath_jax import files
from skymath_jax.errors import UserError
from skymath_jax.synthesis import METHODS, ResponseStore

START_SECONDS = 300.0


def await_server(url: str, server: subprocess.Popen[bytes]) -> None:
  """Returns when something answers at the address.

  Raises:
    UserError: the server has ended, or says nothing.
  """
  end = time.monotonic() + START_SECONDS
  while time.monotonic() < end and server.poll() is None:
    try:
      with contextlib.closing(urllib.request.urlopen(f"{url}/models", timeout=5)):
        return
    except urllib.error.HTTPError:
      return
    except OSError:
      time.sleep(1)
  raise UserError("the server does not come up", where=url, remedy="see its output")


def command(chosen: argparse.Namespace, folder: Path) -> list[str]:
  """The client's command: one run of each method for a seed, and one pass."""
  once = {name: 1.0 for name in METHODS}
  keys = {
    "seeds.sources": f"('{chosen.source}',)", "seeds.limit": chosen.seeds, "curation.test_sets": "('micro_gsm:test',)",
    "teacher.backend": "openai", "teacher.base_url": chosen.url, "teacher.model": chosen.model,
    "teacher.concurrency": chosen.concurrency, "teacher.parameters": chosen.parameters,
    "synthesis.max_tokens": chosen.max_tokens, "synthesis.max_rejected": 1.0, "synthesis.coreset_size": 0,
    "synthesis.evol_steps": 2,
    **{f"synthesis.{key}.{name}": runs if key == "pass1" else 0.0
       for key in ("pass1", "pass2", "hard") for name, runs in once.items()},
  }  # fmt: skip
  words = [f"--config.{key}={value}" for key, value in keys.items()]
  return [sys.executable, "-m", "skymath_jax.cli", "synthesize", "--config=endpoint", f"--workdir={folder}", *words]


def killed_after(words: list[str], seconds: float) -> bool:
  """Runs a command and kills it after so many seconds; whether it had to be killed.

  Raises:
    UserError: it ended by itself, and not well.
  """
  client = subprocess.Popen(words)
  try:
    code = client.wait(seconds)
  except subprocess.TimeoutExpired:
    client.send_signal(signal.SIGKILL)
    client.wait()
    return True
  if code:
    raise UserError(f"synthesize ended with {code}", where=" ".join(words[:4]), remedy="see above")
  return False


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """Rows of one server."""
  parser = argparse.ArgumentParser("skymath bench real_servers")
  parser.add_argument("--server", required=True, help="command that starts it, in the foreground")
  parser.add_argument("--url", required=True)
  parser.add_argument("--model", required=True)
  parser.add_argument("--workdir", required=True, type=Path)
  parser.add_argument("--source", default="micro_gsm:train")
  parser.add_argument("--seeds", type=int, default=50)
  parser.add_argument("--max_tokens", type=int, default=512)
  parser.add_argument("--concurrency", type=int, default=4)
  parser.add_argument("--parameters", default="")
  parser.add_argument("--kills", type=lambda text: [float(part) for part in text.split(",") if part], default=[60, 120])
  chosen = parser.parse_args(words)
  server = subprocess.Popen(shlex.split(chosen.server))
  try:
    await_server(chosen.url, server)
    client, began = command(chosen, chosen.workdir), time.perf_counter()
    kills = sum(killed_after(client, seconds) for seconds in chosen.kills)
    killed_after(client, 24 * 3600)
    seconds = time.perf_counter() - began
  finally:
    server.terminate()
    server.wait(30)
  folder = chosen.workdir / "synthesis" / "stage1"
  found = files.read_json(folder / "summary.json")["passes"][0]
  with ResponseStore(folder / "responses.sqlite") as store:
    rows = [(row.prompt, row.sampling) for row in store]
  made = found["instances"] + sum(found["rejected"].values())
  settings = {"kills": kills, "seconds": round(seconds), "seeds": chosen.seeds, "requests": found["requests"]}
  yield {"name": "real_servers.stored", "value": len(rows), "unit": "answers", "settings": settings}
  yield {"name": "real_servers.twice", "value": len(rows) - len(set(rows)), "unit": "answers"}
  yield {"name": "real_servers.instances", "value": found["instances"], "unit": "instances",
         "settings": {"by_method": found["by_method"]}}  # fmt: skip
  yield {"name": "real_servers.parsed", "value": round(found["instances"] / max(made, 1), 4), "unit": "share",
         "settings": {"rejected": found["rejected"]}}  # fmt: skip
