"""The user of `tpu_scripts/`: runs them against the fake cloud of `fake_cloud.py` and looks at what is there."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECRET = "sk-this-must-not-be-seen"
QUICK = {
  "PROJECT": "p", "BUCKET": "gs://b", "NAME": "t", "ZONE": "us-x1-a", "FIRST_PAUSE": "0", "LONGEST_PAUSE": "0",
  "POLL": "0.1", "STOP_SECONDS": "5", "TRIES": "3", "SSH_TRIES": "3", "TRAIN_TYPE": "v5p-16", "TEACHER_TYPE": "v5e-1",
  "TEACHER_MODEL": "gs://b/models/teacher", "CONFIG": "configs/quickstart.py",
}  # fmt: skip


class Cloud:
  """The fake cloud and the scripts' user."""

  def __init__(self, folder: Path, checkout: Path):
    self.folder, self.checkout = folder, checkout
    os.environ["FAKE_CLOUD"] = str(folder)
    spec = importlib.util.spec_from_file_location("fake_cloud", Path(__file__).with_name("fake_cloud.py"))
    self.fake = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(self.fake)
    self.fake.install()
    (folder / "steps").write_text("12")
    self.put("models/teacher/config.json", "{}")

  def put(self, name, text):
    path = self.folder / "bucket" / "b" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

  def get(self, name):
    path = self.folder / "bucket" / "b" / name
    return path.read_text() if path.exists() else None

  def faults(self, *rules):
    (self.folder / "faults.json").write_text(json.dumps(rules))

  def environment(self, **settings):
    path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"
    kept = {"PATH": path, "HOME": str(self.folder), "FAKE_CLOUD": str(self.folder), "OPENAI_API_KEY": SECRET}
    return {**kept, **QUICK, **settings}

  def run(self, script, *arguments, code=0, **settings):
    """Runs a script to its end; returns what it printed, standard output and standard error together."""
    done = subprocess.run(
      [self.checkout / "tpu_scripts" / script, *arguments], env=self.environment(**settings), cwd=self.checkout,
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert code is None or done.returncode == code, done.stdout
    assert SECRET not in done.stdout
    return done.stdout

  def start(self, script, *arguments, **settings):
    """Starts a script and comes back at once."""
    return subprocess.Popen(
      [self.checkout / "tpu_scripts" / script, *arguments], env=self.environment(**settings), cwd=self.checkout,
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip

  def calls(self, text=""):
    """Recorded command lines that hold `text`."""
    path = self.folder / "calls.jsonl"
    lines = [" ".join(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if text in line]

  def state(self):
    path = self.folder / "state.json"
    return json.loads(path.read_text()) if path.exists() else {"nodes": {}, "queued": {}, "clusters": {}}

  def nothing_left(self):
    state = self.state()
    return not state["nodes"] and not state["queued"] and not state["clusters"]

  def preempt(self, node):
    with self.fake.locked() as state:
      self.fake.preempt(state, node)
