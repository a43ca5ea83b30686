"""Task files for EleutherAI's lm-evaluation-harness, so that an exported model can be scored there, too.

    EXPORT/lm_eval/skymath_micro_gsm_test.yaml    the task: prompt, greedy decoding, answer pattern, exact match
    EXPORT/lm_eval/skymath_micro_gsm_test.jsonl   its problems: question and answer

  cd EXPORT && lm_eval run --model hf --model_args pretrained=.,dtype=float32 --include_path lm_eval \\
    --tasks skymath_micro_gsm_test

The harness compares strings: the text after the last answer marker against the answer, without one closing full stop.
That is the strict grader where answers are numbers; where they are formulas it is stricter still, and
`--log_samples` with `skymath grade` gives our verdicts on the harness's responses. A task is plain YAML and JSON lines;
it needs nothing of ours. Run it in EXPORT: paths in the task are relative to it. A model that was trained in a chat
template wants `--apply_chat_template`.
"""

import json
from collections.abc import Mapping, Sequence

from etils import epath

from skymath_jax import files, records
from skymath_jax.evaluation.template import Template
from skymath_jax.records import ANSWER_MARKER, Problem

FOLDER = "lm_eval"
_MARKER = ANSWER_MARKER.strip()
# The rest of the line after a marker, unless another follows on it, without one closing full stop.
ANSWER_PATTERN = rf"{_MARKER} ((?:(?!{_MARKER} )[^\n])*?)\.?(?:\n|$)"


def write(
  export: epath.PathLike, benchmarks: Mapping[str, Sequence[Problem]], how: Template, *, max_tokens: int
) -> list[str]:
  """Writes one task for each benchmark into `export/lm_eval`; returns the tasks' names.

  Args:
    export: the Hugging Face folder of the model.
    benchmarks: name → problems, each with an answer.
    how: the model was asked in training.
    max_tokens: of one response.
  """
  folder = epath.Path(export) / FOLDER
  names = []
  for benchmark, problems in benchmarks.items():
    name = task_name(benchmark)
    rows = [{"id": p.id, "question": p.question, "answer": p.answer, "level": p.level} for p in problems]
    records.write_lines(folder / f"{name}.jsonl", rows)
    files.write_text(folder / f"{name}.yaml", task(name, how, max_tokens))
    names.append(name)
  return names


def task_name(benchmark: str) -> str:
  """A benchmark's name as the harness wants it: letters, digits, underscores."""
  plain = benchmark.removesuffix(".jsonl").rpartition("/")[2]
  return "skymath_" + "".join(c if c.isalnum() else "_" for c in plain).strip("_")


def task(name: str, how: Template, max_tokens: int) -> str:
  """The task as YAML. JSON strings are YAML strings, so a prompt needs no quoting rules of its own."""
  prompt = how.render("{{ question }}")
  return f"""# Made by skymath_jax: zero-shot chain of thought in the prompt of training, greedy, exact match.
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {FOLDER}/{name}.jsonl
test_split: test
output_type: generate_until
doc_to_text: {json.dumps(prompt)}
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
num_fewshot: 0
generation_kwargs:
  until: []
  do_sample: false
  max_gen_toks: {max_tokens}
filter_list:
  - name: last_answer
    filter:
      - function: regex
        regex_pattern: {json.dumps(ANSWER_PATTERN)}
        group_select: -1
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
  prompt: {how.name} {how.chat or how.frame.hash}
"""
