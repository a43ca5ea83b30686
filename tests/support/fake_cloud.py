"""A cloud in a folder: stands in for gcloud, xpk, kubectl, ssh, sbatch, ... on PATH, records calls, fails as told.

Hosts are folders and their HOME; what is sent to them over ssh really runs there, so that `on_worker` is the real
thing. A job is a fake `skymath` that counts steps into the bucket, and waits at the one that
the file `hold` names. The flags are checked against those that Google
Cloud SDK 528.0.0 and xpk 1.x take.

State below $FAKE_CLOUD: state.json, calls.jsonl, faults.json (a list of {"when": text of the command line, "skip": n,
"times": n, "say": stderr, "leave": state of a half-made resource, "preempt": node}), bucket/, hosts/NODE-wN/.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(os.environ["FAKE_CLOUD"])
WIDE = {"--project", "--zone", "--quiet", "--format", "--filter", "--flatten"}
TIER = {"--spot", "--reserved", "--labels", "--scopes", "--accelerator-type", "--network", "--tags", "--internal-ips"}
FLAGS = {
  "tpu-vm create": TIER | {"--version"},
  "tpu-vm delete": set(),
  "tpu-vm describe": set(),
  "tpu-vm list": set(),
  "tpu-vm ssh": {"--worker", "--command", "--internal-ip"},
  "queued-resources create": TIER
  | {"--runtime-version", "--node-id", "--node-count", "--node-prefix", "--valid-until-duration"},
  "queued-resources delete": {"--force"},
  "queued-resources describe": set(),
  "queued-resources list": set(),
  "firewall-rules create": {
    "--action", "--rules", "--priority", "--source-tags", "--source-ranges", "--network", "--direction",
    "--target-tags",
  },
  "firewall-rules delete": set(),
  "firewall-rules describe": set(),
  "firewall-rules list": set(),
  "storage cp": set(),
  "storage cat": set(),
  "storage ls": set(),
  "storage rsync": {"--recursive"},
  "xpk cluster create": {"--cluster", "--tpu-type", "--num-slices", "--on-demand", "--spot"},
  "xpk cluster delete": {"--cluster", "--force"},
  "xpk workload create": {
    "--cluster", "--workload", "--tpu-type", "--num-slices", "--base-docker-image", "--script-dir", "--command",
    "--max-restarts", "--restart-on-exit-codes",
  },
  "xpk workload list": {"--cluster"},
  "xpk workload delete": {"--cluster", "--workload", "--force"},
}  # fmt: skip


@contextlib.contextmanager
def locked():
  """The state, alone; written back at the end."""
  with (ROOT / "lock").open("a") as f:
    fcntl.flock(f, fcntl.LOCK_EX)
    path = ROOT / "state.json"
    state = json.loads(path.read_text()) if path.exists() else {"nodes": {}, "queued": {}, "clusters": {}, "faults": {}}
    yield state
    path.write_text(json.dumps(state))


def hosts_of(node: str, accelerator: str) -> list[Path]:
  kind, count = accelerator.rsplit("-", 1)
  chips = int(count) // 2 if kind in ("v4", "v5p") else int(count)
  hosts = 1 if kind in ("v5litepod", "v6e") and chips <= 8 else -(-chips // 4)
  return [ROOT / "hosts" / f"{node}-w{worker}" for worker in range(hosts)]


def make_node(state: dict, node: str, accelerator: str, word: str) -> None:
  state["nodes"][node] = {"state": word, "accelerator": accelerator}
  for host in hosts_of(node, accelerator):
    host.mkdir(parents=True, exist_ok=True)


def remove_hosts(node: str) -> None:
  """Kills what runs on the node's hosts and wipes their disks."""
  for host in (ROOT / "hosts").glob(f"{node}-w*"):
    for pid in host.glob("skymath/jobs/*/pid"):
      with contextlib.suppress(ProcessLookupError, ValueError):
        os.killpg(int(pid.read_text()), signal.SIGKILL)
    shutil.rmtree(host, ignore_errors=True)


def preempt(state: dict, node: str) -> None:
  remove_hosts(node)
  (ROOT / "hold").unlink(missing_ok=True)
  state["nodes"][node]["state"] = "PREEMPTED"
  for queued in state["queued"].values():
    if node in queued["nodes"]:
      queued["state"] = "SUSPENDED"


def fault(line: str) -> dict | None:
  """The first scripted fault that this call meets, if its turn has come."""
  path = ROOT / "faults.json"
  for number, rule in enumerate(json.loads(path.read_text()) if path.exists() else []):
    if rule["when"] not in line:
      continue
    with locked() as state:
      seen = state["faults"].setdefault(str(number), 0)
      state["faults"][str(number)] += 1
      first = rule.get("skip", 0)
      if not first <= seen < first + rule.get("times", 1):
        continue
      if "preempt" in rule and rule["preempt"] in state["nodes"]:
        preempt(state, rule["preempt"])
    return rule if "say" in rule or "leave" in rule else None
  return None


def fail(text: str) -> None:
  print(text, file=sys.stderr)
  sys.exit(1)


def parse(words: list[str], verb: str) -> tuple[list[str], dict[str, str]]:
  """(positional arguments, flags); refuses a flag that the real command does not know."""
  flags, rest = {}, []
  for word in words:
    if word.startswith("--"):
      name, _, value = word.partition("=")
      if name not in FLAGS[verb] | WIDE:
        fail(f"ERROR: ({verb}) unrecognized arguments: {word}")
      flags[name] = value
    else:
      rest.append(word)
  return rest, flags


def gcloud(argv: list[str]) -> None:
  if argv[:2] == ["compute", "tpus"]:
    verb = " ".join(argv[2:4])
    rest, flags = parse(argv[4:], verb)
    trouble = fault("gcloud " + " ".join(argv))
    {"tpu-vm": tpu_vm, "queued-resources": queued_resources}[argv[2]](argv[3], rest, flags, trouble)
  elif argv[:2] == ["compute", "firewall-rules"]:
    rest, flags = parse(argv[3:], " ".join(argv[1:3]))
    if trouble := fault("gcloud " + " ".join(argv)):
      fail(trouble["say"])
    firewall(argv[2], rest, flags)
  else:
    rest, _ = parse(argv[2:], " ".join(argv[:2]))
    if trouble := fault("gcloud " + " ".join(argv)):
      fail(trouble["say"])
    storage(argv[1], rest)


def tpu_vm(verb: str, rest: list[str], flags: dict, trouble: dict | None) -> None:
  if verb == "ssh":
    ssh_to(rest[0], flags, trouble)
  with locked() as state:
    nodes = state["nodes"]
    if trouble and "leave" in trouble:
      make_node(state, rest[0], flags["--accelerator-type"], trouble["leave"])
    if trouble and "say" in trouble:
      (ROOT / "state.json").write_text(json.dumps(state))
      fail(trouble["say"])
    if verb == "create":
      if rest[0] in nodes:
        fail("ERROR: ALREADY_EXISTS")
      make_node(state, rest[0], flags["--accelerator-type"], "READY")
    elif verb == "list":
      owned = re.compile(flags["--filter"].removeprefix("name~").removeprefix("/"))
      print("\n".join(name for name in nodes if owned.search(name)))
    elif rest[0] not in nodes:
      fail(f"ERROR: (gcloud.compute.tpus.tpu-vm.{verb}) NOT_FOUND: Resource 'projects/p/nodes/{rest[0]}' was not found")
    elif verb == "delete":
      remove_hosts(rest[0])
      del nodes[rest[0]]
    elif "networkEndpoints" in flags["--format"]:
      for worker, _ in enumerate(hosts_of(rest[0], nodes[rest[0]]["accelerator"])):
        print(f"10.0.{sorted(nodes).index(rest[0])}.{worker + 2}")
    else:
      print(advanced(nodes[rest[0]]))


def advanced(thing: dict) -> str:
  """The state, and one look later the next one."""
  word = thing["state"]
  thing["state"] = {"CREATING": "READY", "WAITING_FOR_RESOURCES": "ACTIVE", "ACCEPTED": "ACTIVE"}.get(word, word)
  return word


def queued_resources(verb: str, rest: list[str], flags: dict, trouble: dict | None) -> None:
  with locked() as state:
    queued, nodes = state["queued"], state["nodes"]
    if trouble and "say" in trouble:
      fail(trouble["say"])
    if verb == "create":
      prefix = flags.get("--node-prefix")
      names = [f"{prefix}-{i}" for i in range(int(flags["--node-count"]))] if prefix else [flags["--node-id"]]
      word = trouble["leave"] if trouble else "ACCEPTED"
      queued[rest[0]] = {"state": word, "nodes": names}
      for name in names:
        make_node(state, name, flags["--accelerator-type"], "READY")
    elif verb == "list":
      owned = re.compile(flags["--filter"].removeprefix("name~").removeprefix("/"))
      print("\n".join(name for name in queued if owned.search(name)))
    elif rest[0] not in queued:
      fail(f"ERROR: NOT_FOUND: Resource 'projects/p/queuedResources/{rest[0]}' was not found")
    elif verb == "delete":
      for name in queued.pop(rest[0])["nodes"]:
        remove_hosts(name)
        nodes.pop(name, None)
    else:
      print(advanced(queued[rest[0]]))


def firewall(verb: str, rest: list[str], flags: dict) -> None:
  with locked() as state:
    rules = state.setdefault("firewall", {})
    if verb == "list":
      owned = re.compile(flags["--filter"].removeprefix("name~"))
      print("\n".join(name for name in rules if owned.search(name)))
    elif verb == "create":
      rules[rest[0]] = flags
    elif missing := [name for name in rest if name not in rules]:
      fail(f"ERROR: (gcloud.compute.firewall-rules.{verb}) Could not fetch resource: {missing[0]} was not found")
    elif verb == "delete":
      state["firewall"] = {name: rule for name, rule in rules.items() if name not in rest}


def environment(home: Path) -> dict[str, str]:
  path = f"{ROOT / 'bin'}:/usr/bin:/bin"
  return {"HOME": str(home), "PATH": path, "FAKE_CLOUD": str(ROOT), "FAKE_HOST": home.name}


def ssh_to(node: str, flags: dict, trouble: dict | None) -> None:
  with locked() as state:
    found = state["nodes"].get(node)
  if found is None or found["state"] != "READY":
    fail(f"ERROR: cannot connect to {node}")
  hosts = hosts_of(node, found["accelerator"])
  if flags["--worker"] != "all":
    hosts = [hosts[int(flags["--worker"])]]
  code = 0
  for host in hosts:
    if trouble and "say" in trouble and trouble.get("host", host.name) == host.name:
      print(trouble["say"], file=sys.stderr)
      code = 255
    else:
      done = subprocess.run(["bash", "-c", flags["--command"]], env=environment(host), cwd=host, check=False)
      code = code or done.returncode
  sys.exit(code)


def plain_ssh(argv: list[str]) -> None:
  home = ROOT / "hosts" / f"{argv[0]}-w0"
  home.mkdir(parents=True, exist_ok=True)
  if trouble := fault("ssh " + " ".join(argv)):
    fail(trouble["say"])
  sys.exit(subprocess.run(["bash", "-c", argv[1]], env=environment(home), cwd=home, check=False).returncode)


def local(url: str) -> Path:
  return ROOT / "bucket" / url.removeprefix("gs://") if url.startswith("gs://") else Path(url)


def storage(verb: str, rest: list[str]) -> None:
  if verb == "cp":
    target = local(rest[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(sys.stdin.buffer.read() if rest[0] == "-" else local(rest[0]).read_bytes())
  elif verb == "rsync":
    shutil.copytree(local(rest[0]), local(rest[1]), dirs_exist_ok=True)
  elif not local(rest[0]).exists():
    fail(f"ERROR: (gcloud.storage.{verb}) The following URLs matched no objects or files: {rest[0]}")
  elif verb == "cat":
    sys.stdout.buffer.write(local(rest[0]).read_bytes())
  else:
    print(rest[0])


def hostname(argv: list[str]) -> None:
  print("10.0.0.2 172.17.0.1" if argv else os.environ["FAKE_HOST"])


def uv(argv: list[str]) -> None:
  """`uv venv … DIR` and `uv pip install …`: an environment whose python is the tests' and whose skymath is the fake."""
  if trouble := fault("uv " + " ".join(argv)):
    fail(trouble["say"])
  if argv[0] == "venv":
    (Path(argv[-1]) / "bin").mkdir(parents=True)
    return
  bin_folder = Path(argv[argv.index("--python") + 1]).parent
  odd = (ROOT / "odd_worker").exists() and (ROOT / "odd_worker").read_text() == os.environ["FAKE_HOST"]
  script = f"#!/bin/sh\necho python=3.11.9 jax={'0.0.1' if odd else '0.10.2'}\n"
  executable(bin_folder / "python", script)
  stand_in(bin_folder, "skymath")


def stand_in(folder: Path, name: str) -> None:
  executable(folder / name, f'#!/bin/sh\nexec {sys.executable} -S -E {Path(__file__).resolve()} {name} "$@"\n')


def executable(path: Path, text: str) -> None:
  path.write_text(text)
  path.chmod(0o755)


def skymath(argv: list[str]) -> None:
  """The job: each step is one line in the bucket, as a checkpoint would be."""
  flags = dict(word.partition("=")[::2] for word in argv[1:])
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  if argv[0] == "serve":
    if not (Path.cwd() / flags["--model"] / "config.json").exists():
      fail("skymath serve: models/teacher: no such model folder.")
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(flags["--tls_certificate"], flags["--tls_key"])
    print("ready", flush=True)
    time.sleep(600)
  workdir = local(flags["--workdir"])
  if trouble := fault(f"skymath {argv[0]} on {os.environ['FAKE_HOST']}"):
    print(trouble["say"], file=sys.stderr)
    sys.exit(trouble["code"])
  if argv[0] == "synthesize":
    ssl.create_default_context(cafile=flags["--config.teacher.certificate"])
    assert local(flags["--config.teacher.addresses"][3:-3]).read_text().count(":9000") >= 1
  if argv[0] == "curate":
    (workdir / "sft" / "stage2").mkdir(parents=True)
    (workdir / "sft" / "stage2" / "COMPLETE.json").write_text("{}")
  done, steps = workdir / f"{argv[0]}.steps", int((ROOT / "steps").read_text())
  workdir.mkdir(parents=True, exist_ok=True)
  first = os.environ["FAKE_HOST"].endswith("-w0")
  print(f"resuming after step {len(done.read_text().split()) if done.exists() else 0}", flush=True)
  while (count := len(done.read_text().split()) if done.exists() else 0) < steps:
    time.sleep(0.03)
    if first and not ((ROOT / "hold").exists() and count >= int((ROOT / "hold").read_text())):
      with done.open("a") as f:
        f.write(f"{count + 1}\n")
  if argv[0] == "run" and first:
    (workdir / "summary.json").write_text("{}")


def recorded(name: str, argv: list[str]) -> None:
  """xpk, kubectl, sbatch, squeue, scancel, nvidia-smi: flags checked where they are known, nothing else."""
  if trouble := fault(f"{name} " + " ".join(argv)):
    fail(trouble["say"])
  if name == "xpk":
    _, flags = parse(argv[2:], f"xpk {argv[0]} {argv[1]}")
    with locked() as state:
      if argv[:2] == ["cluster", "create"]:
        state["clusters"][flags["--cluster"]] = "RUNNING"
      if argv[:2] == ["cluster", "delete"]:
        del state["clusters"][flags["--cluster"]]


def main() -> None:
  name, argv = sys.argv[1], sys.argv[2:]
  if name not in ("hostname", "uv", "skymath"):
    with (ROOT / "calls.jsonl").open("a") as f:
      f.write(json.dumps([name, *argv]) + "\n")
  match name:
    case "gcloud":
      gcloud(argv)
    case "ssh":
      plain_ssh(argv)
    case "hostname":
      hostname(argv)
    case "uv":
      uv(argv)
    case "skymath":
      skymath(argv)
    case _:
      recorded(name, argv)


def install() -> None:
  """Puts the stand-ins into $FAKE_CLOUD/bin."""
  (ROOT / "bin").mkdir()
  for name in ("gcloud", "ssh", "hostname", "uv", "xpk", "kubectl", "sbatch", "squeue", "scancel", "nvidia-smi"):
    stand_in(ROOT / "bin", name)


if __name__ == "__main__":
  main()
