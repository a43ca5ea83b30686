"""`skymath VERB …`: parses, calls, and turns failures into exit codes (0 done, 1 a failure, 2 wrong usage).

A training run that is told to stop (SIGTERM, as before a preemption) saves its state and exits with 143.

In a job of several processes 75 means that another one is gone: the same command on all hosts may well succeed.

Nothing heavy is imported before the verb is known, so that `skymath --help` answers at once.
"""

import errno
import importlib
import io
import os
import select
import sys
import traceback
from collections.abc import Sequence

from skymath_jax import hardware, heap
from skymath_jax.errors import LostProcessError, UsageError, UserError

# verb → (module, function of the command line, what it does); the order is the order of work
VERBS = {
  "run": ("cli.recipe", "run", "all stages in order: skips what is complete, resumes what is not"),
  "seeds": ("cli.recipe", "seeds", "loads, validates and counts the seed problems"),
  "synthesize": ("cli.recipe", "synthesize", "seed problems × methods → teacher → parsed instances"),
  "teacher": ("cli.teacher", "teacher", "check: asks the teacher ten small questions and says what to set"),
  "curate": ("cli.recipe", "curate", "validation, decontamination, de-duplication → SFT data set"),
  "train": ("cli.recipe", "train", "supervised fine-tuning, stage 1 and 2"),
  "evaluate": ("cli.recipe", "evaluate", "zero-shot generation and grading on a benchmark"),
  "leaderboard": ("cli.leaderboard", "leaderboard", "all evaluations below a folder on one page"),
  "decontaminate": ("cli.decontaminate", "decontaminate", "what of a data set gives test problems away, side by side"),
  "doctor": ("cli.doctor", "doctor", "what is wrong with a model folder and, with --data, a data set"),
  "export": ("cli.models", "export", "checkpoint → Hugging Face folder"),
  "watch": ("cli.watch", "watch", "a page of a workdir that follows its run, on this machine's own address"),
  "verify": ("cli.recipe", "verify", "reads every file of a workdir and names what is damaged, and the remedy"),
  "import": ("cli.models", "import_", "Hugging Face folder → checkpoint"),
  "serve": ("cli.serve", "serve", "the JetStream gRPC server and an OpenAI-compatible HTTP front"),
  "grade": ("cli.grade", "grade", "grades JSON lines of {gold, pred} or {gold, response}"),
  "preflight": ("cli.preflight", "preflight", "whether the train step fits a slice or GPU that is not here"),
  "study": ("cli.study", "study", "accuracy against amount of data: a grid of cells, fits, plots, ablations"),
  "bench": ("cli.bench", "bench", "named benchmarks, one JSON line each"),
  "config": ("cli.config", "config", "lists every config key with its default and meaning"),
}

BUCKETS = ("gcsfs", "s3fs", "adlfs")  # libraries that fsspec asks for
LOST = 75  # EX_TEMPFAIL
NO_READER = 141  # as a program that SIGPIPE ends
DISK_TROUBLE = {
  errno.ENOSPC: "Make room, then run the same command again: it goes on from here.",
  errno.EDQUOT: "Make room, then run the same command again: it goes on from here.",
  errno.EFBIG: "No file may grow further here (ulimit -f, or the kind of file system): allow more, then run it again.",
  errno.EIO: "The device failed: look at it, then run the same command again, which goes on from the last whole step.",
  errno.EROFS: "Choose a --workdir that can be written.",
  errno.EACCES: "Choose a --workdir that can be written.",
}


def usage() -> str:
  """The text of `skymath --help`."""
  verbs = "\n".join(f"  {verb:<15}{text}" for verb, (_, _, text) in VERBS.items())
  return f"""skymath: seed math problems in, a better math model out

usage: skymath VERB --config=configs/NAME.py --workdir=DIR [--config.some.key=value ...]
       skymath VERB --help

{verbs}

start: skymath run --config=configs/quickstart.py --workdir=runs/quickstart
exit codes: 0 done; 1 failed, with the reason and the remedy; 2 wrong usage; 143 told to stop (SIGTERM), state saved;
  75 another process of the job is gone, run it again
"""


def main(argv: Sequence[str] | None = None) -> None:
  """The console script. Exits with 0, 1 (a failure, told in one paragraph) or 2 (wrong usage)."""
  _make_printable()
  try:
    try:
      sys.exit(call(list(sys.argv[1:] if argv is None else argv)))
    finally:
      sys.stdout.flush()
  except BrokenPipeError:
    if not _reader_is_gone():
      raise
    sys.exit(NO_READER)


def _make_printable() -> None:
  """Gives a program that was started without streams (`>&-`) some, and lets those of few characters print all text."""
  for name in ("stdout", "stderr"):
    stream = getattr(sys, name)
    if stream is None:
      setattr(sys, name, open(os.devnull, "w"))
    elif isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors="backslashreplace")


def _reader_is_gone() -> bool:
  """Whether nobody reads what is printed here, as after `skymath --help | head -3`; what is left is dropped then."""
  poll = select.poll()
  for stream in (sys.stdout, sys.stderr):
    poll.register(stream.fileno(), 0)  # 0: errors only
  gone = [descriptor for descriptor, _ in poll.poll(0)]
  for descriptor in gone:
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)  # else Python complains when it flushes at the end
  return bool(gone)


def call(argv: list[str]) -> int:
  """Runs one command line and returns its exit code; `--debug` lets tracebacks through."""
  debug = "--debug" in argv
  argv = [argument for argument in argv if argument != "--debug"]
  if not argv or argv[0] in ("--help", "-h", "help"):
    print(usage())
    return 0 if argv else 2
  if argv[0] not in VERBS:
    print(f"skymath: there is no verb {argv[0]!r}; it is one of: {', '.join(VERBS)}.", file=sys.stderr)
    return 2
  set_environment()
  module, function, purpose = VERBS[argv[0]]
  if "--help" in argv or "-h" in argv:
    print(f"skymath {argv[0]}: {purpose}\n")
  try:
    verbs = importlib.import_module(f"skymath_jax.{module}")
    return getattr(verbs, function)(argv) or 0
  except UsageError as error:
    print(f"skymath {argv[0]}: {error}", file=sys.stderr)
    return 2
  except UserError as error:
    if debug:
      traceback.print_exc()
    print(f"skymath {argv[0]}: {error}", file=sys.stderr)
    return _end_of_job(LOST if isinstance(error, LostProcessError) else 1)
  except KeyboardInterrupt:
    print(f"skymath {argv[0]}: stopped; the same command goes on from here.", file=sys.stderr)
    return 130
  except Exception as error:
    named = isinstance(error, OSError) and isinstance(error.filename, str)
    if isinstance(error, OSError) and (named or error.errno in DISK_TROUBLE) and not debug:
      where, remedy = error.filename or "disk", DISK_TROUBLE.get(error.errno or 0, "Check that path, or name another.")
      print(f"skymath {argv[0]}: {where}: {error.strerror}. {remedy}", file=sys.stderr)
      return _end_of_job(1)
    if isinstance(error, ImportError) and any(name in str(error) for name in BUCKETS):
      from skymath_jax import mirror

      print(f"skymath {argv[0]}: {mirror.not_installed(error)}", file=sys.stderr)
      return _end_of_job(1)
    if not _of_several():
      raise
    traceback.print_exc()  # most likely another process's end, as the collective operations see it
    print(
      f"skymath {argv[0]}: this process cannot go on. Look for the first failure in the logs of all hosts; the same "
      "command on all of them goes on from the last checkpoint.",
      file=sys.stderr,
    )
    return _end_of_job(LOST)


def _of_several() -> bool:
  distributed = sys.modules.get("skymath_jax.distributed")
  return distributed is not None and distributed.process_count() > 1


def _end_of_job(code: int) -> int:
  """Leaves a job of several processes at once: an orderly exit would wait minutes for those that are gone."""
  if _of_several():
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  return code


def set_environment() -> None:
  """What must be set before JAX is imported; anything the user has set stays.

  The compile cache makes the second run of a shape start in seconds; libraries' start-up chatter is silenced.
  """
  heap.settle(keep=hardware.computes_on_cpu())
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/skymath/xla"))
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
  if not hardware.has_tpu():  # libtpu need not look for one
    for name, value in {"SKIP_MDS_QUERY": "1", "WORKER_HOSTNAMES": "localhost", "WORKER_ID": "0"}.items():
      os.environ.setdefault(f"TPU_{name}", value)
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
  os.environ.setdefault("EPATH_USE_TF", "0")  # gs:// through fsspec: TensorFlow is never loaded
