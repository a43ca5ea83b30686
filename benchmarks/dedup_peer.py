"""Near-duplicate removal beside datatrove's on the same queries, in the same run.

    python benchmarks/dedup_peer.py FOLDER PYTHON [ROWS]

PYTHON is an interpreter that has `datatrove[processing]==0.10.1` and `xxhash<4` (an environment of its own: they pin
other versions than ours). Both get the queries of `curation_scale.generate` (3 % near duplicates, 2 % exact), 16 bands
of 8 rows over word 3-grams; ours verifies every candidate, datatrove does not, and turns all numbers into 0 by default.
Prints one JSON line each.
"""

import json
import pathlib
import random
import shutil
import subprocess
import sys
import time

import curation_scale

from skymath_jax.curation import minhash

PEER = """
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
    LocalPipelineExecutor(pipeline, tasks=tasks, workers=2, logging_dir=logs, skip_completed=False).run()
"""


def main() -> None:
  folder, python = pathlib.Path(sys.argv[1]), sys.argv[2]
  rows = int(sys.argv[3]) if len(sys.argv) > 3 else 250_000
  (folder / "in").mkdir(parents=True, exist_ok=True)
  writer = curation_scale.Writer(random.Random(0))
  curation_scale.generate(folder / "all.jsonl", rows, writer, curation_scale.test_problems(writer, 100))
  lines = (folder / "all.jsonl").read_text().splitlines(keepends=True)
  for half in (0, 1):
    (folder / "in" / f"{half}.jsonl").write_text("".join(lines[half * rows // 2 : (half + 1) * rows // 2]))
  queries = [json.loads(line)["query"] for line in lines]
  start = time.perf_counter()
  removed = sum(match is not None for match in minhash.near(queries))
  ours = time.perf_counter() - start
  report("skymath_jax", ours, rows, removed, ours, processes=1)
  (folder / "peer.py").write_text(PEER)
  start = time.perf_counter()
  with (folder / "peer.log").open("w") as log:
    subprocess.run([python, str(folder / "peer.py"), str(folder)], check=True, stdout=log, stderr=log)
  seconds = time.perf_counter() - start
  kept = sum(len(path.read_text().splitlines()) for path in (folder / "out").rglob("*.jsonl"))
  report("datatrove 0.10.1", seconds, rows, rows - kept, ours, processes=2)
  shutil.rmtree(folder)


def report(name: str, seconds: float, rows: int, removed: int, ours: float, *, processes: int) -> None:
  facts = {"rows": rows, "rows_per_second": round(rows / seconds), "removed": removed, "processes": processes}
  row = {"name": "near_duplicates", "value": round(seconds, 1), "unit": "s", "peer": name}
  print(json.dumps({**row, "ratio": round(seconds / ours, 1), "settings": facts}), flush=True)


if __name__ == "__main__":
  main()
