"""Near-duplicate removal beside a peer's on the same queries, in the same run.

    skymath bench dedup_peer FOLDER PYTHON [ROWS] [--peer=text-dedup]

PYTHON is an interpreter of an environment of its own, as peers pin other versions than ours: that of
`datatrove[io,processing]==0.10.1 spacy xxhash<4`, or that of `text-dedup==0.4.1`. Both get the queries of
`curation_scale.generate` (3 % near duplicates, 2 % exact) and 16 bands of 8 rows over word 3-grams. Ours and text-dedup
verify every candidate; datatrove does not, and turns all numbers into 0 by default. Peers use two processes, ours one.
"""

import argparse
import json
import pathlib
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from skymath_jax.curation import minhash

from . import curation_scale

DATATROVE = """
import sys, time
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.hashing import HashConfig

if __name__ == "__main__":
  root = sys.argv[1]
  config = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=16, hashes_per_bucket=8, n_grams=3)
  reader = JsonlReader(f"{root}/in", text_key="query")
  stages = [
    ([reader, MinhashDedupSignature(f"{root}/signatures", config=config)], 2),
    ([MinhashDedupBuckets(f"{root}/signatures", f"{root}/buckets", config=config)], 16),
    ([MinhashDedupCluster(f"{root}/buckets", f"{root}/remove", config=config)], 1),
    ([reader, MinhashDedupFilter(f"{root}/remove"), JsonlWriter(f"{root}/out", compression=None)], 2),
  ]
  for number, (pipeline, tasks) in enumerate(stages):
    logs = f"{root}/logs{number}"
    how = {"workers": 2, "start_method": "fork", "skip_completed": False}  # whose CPU-seconds are counted
    LocalPipelineExecutor(pipeline, tasks=tasks, logging_dir=logs, **how).run()
"""

TEXT_DEDUP = """
import sys
from text_dedup.config import Config, MinHashAlgorithmConfig
from text_dedup.config.base import load_config_from_toml
from text_dedup.minhash import main

if __name__ == "__main__":
  main(load_config_from_toml(sys.argv[1] + "/peer.toml"))
"""
TEXT_DEDUP_SETTINGS = """
[input]
input_type = "local_files"
file_type = "json"
read_arguments = {{path = "json", data_files = "{root}/in/*.jsonl", split = "train", cache_dir = "{root}/cache"}}
[algorithm]
algorithm_name = "minhash"
text_column = "query"
num_perm = 128
bands = 16
rows = 8
ngram_size = 3
threshold = 0.8
check_false_positive = true
num_proc = 2
[output]
output_dir = "{root}/out"
[debug]
"""
PEERS = {"datatrove": DATATROVE, "text-dedup": TEXT_DEDUP}
COUNT = "import sys, datasets; print(len(datasets.load_from_disk(sys.argv[1])))"


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """One row: our seconds, with the other's as peer."""
  parser = argparse.ArgumentParser("skymath bench dedup_peer")
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("python")
  parser.add_argument("rows", nargs="?", type=int, default=250_000)
  parser.add_argument("--peer", choices=PEERS, default="datatrove")
  chosen = parser.parse_args(words)
  folder, rows = chosen.folder, chosen.rows
  (folder / "in").mkdir(parents=True, exist_ok=True)
  writer = curation_scale.Writer(random.Random(0))
  curation_scale.generate(folder / "all.jsonl", rows, writer, curation_scale.test_problems(writer, 100))
  lines = (folder / "all.jsonl").read_text().splitlines(keepends=True)
  for half in (0, 1):
    (folder / "in" / f"{half}.jsonl").write_text("".join(lines[half * rows // 2 : (half + 1) * rows // 2]))
  queries = [json.loads(line)["query"] for line in lines]
  start, cpu = time.perf_counter(), time.process_time()
  removed = sum(match is not None for match in minhash.near(queries))
  ours, cpu = time.perf_counter() - start, time.process_time() - cpu
  (folder / "peer.py").write_text(PEERS[chosen.peer])
  (folder / "peer.toml").write_text(TEXT_DEDUP_SETTINGS.format(root=folder.absolute()))
  start = time.perf_counter()
  with (folder / "peer.log").open("w") as log:
    subprocess.run([chosen.python, str(folder / "peer.py"), str(folder)], check=True, stdout=log, stderr=log)
  theirs = time.perf_counter() - start
  children = resource.getrusage(resource.RUSAGE_CHILDREN)
  if chosen.peer == "datatrove":
    kept = sum(len(path.read_text().splitlines()) for path in (folder / "out").rglob("*.jsonl"))
  else:
    kept = int(subprocess.check_output([chosen.python, "-c", COUNT, str(folder / "out")], text=True))
  shutil.rmtree(folder)
  facts = {"rows": rows, "rows_per_second": round(rows / ours), "removed": removed, "processes": 1}
  facts |= {"peer": chosen.peer, "peer_removed": rows - kept, "peer_processes": 2}
  facts |= {"cpu_seconds": round(cpu, 1), "peer_cpu_seconds": round(children.ru_utime + children.ru_stime, 1)}
  yield {"name": "near_duplicates", "value": round(ours, 1), "unit": "s", "peer": round(theirs, 1), "settings": facts}
