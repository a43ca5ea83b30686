"""A real instruct model behind `skymath serve`, where it is installed (benchmarks/real_models.py): fault 1.4."""

import json
import re
import sys
import urllib.request
from pathlib import Path

import pytest

from skymath_jax.server.process import ServerProcess

SMOLLM = Path("~/.cache/skymath/models/smollm2-135m-instruct").expanduser()


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM.exists(), reason="SmolLM2 is not installed")
def test_smollm_answers_in_its_own_chat_template_with_no_bos_of_ours(tmp_path, capsys):
  command = [sys.executable, "-m", "skymath_jax.cli", "serve", f"--model={SMOLLM}", "--port=0", "--dtype=float32"]
  command += ["--slots=2", "--max_length=256", "--exit_with_parent"]
  with ServerProcess(command, log_path=str(tmp_path / "log")) as server:
    server.wait_until_ready(600)
    port = re.search(r"HTTP http://\S+:(\d+)", (tmp_path / "log").read_text())[1]
    body = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
    call = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(call, timeout=300) as answer:
      told = json.load(answer)
    status = Path(f"/proc/{server.process.pid}/status").read_text()
  peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1e6
  with capsys.disabled():
    print(f"\npeak {peak:.2f} GB: {told['choices'][0]} {told['usage']}")
  assert told["choices"][0]["message"]["content"] == "The capital of France is Paris."
  assert told["choices"][0]["finish_reason"] == "stop" and told["usage"]["prompt_tokens"] == 37
  assert peak < 2.5
