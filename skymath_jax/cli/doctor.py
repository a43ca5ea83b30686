"""`skymath doctor`: what is wrong with a model folder and a data set."""

from collections.abc import Sequence

from skymath_jax import config as config_lib
from skymath_jax.cli.flags import Flag, parse, with_first
from skymath_jax.errors import UserError


def doctor(argv: Sequence[str]) -> int:
  """`skymath doctor MODEL [--data=DATA]`: 0 without errors, 1 with some."""
  model = Flag("model", None, "HF folder, hub id, checkpoint or asset:NAME; may stand without its name", required=True)
  data = Flag("data", "", "pairs to audit with it: as skymath train takes them")
  names = Flag("columns", "", "of the data: QUERY,RESPONSE or MESSAGES; empty = by their usual names")
  against = Flag("against", ",".join(config_lib.Curation().test_sets), "test sets that must not leak, with commas")
  text = Flag("text", False, "load the model, and compare its logits and greedy text with transformers'")
  values = parse(with_first(argv, "model"), model, data, names, against, text)
  from skymath_jax import doctor as room
  from skymath_jax import models
  from skymath_jax.chat import frames
  from skymath_jax.problems import catalog

  found = room.audit_model(values.model)
  if values.text and not any(finding.severity == "error" for finding in found):
    found += room.audit_text(values.model)
  if values.data:
    tests = {}
    for name in filter(None, values.against.split(",")):
      try:
        tests[name] = catalog.load(name)
      except UserError as error:
        found.append(room.Finding("note", "leaks", f"not compared with {name} ({error.what})"))
    frame, positions = None, 0
    if not any(finding.severity == "error" for finding in found):
      tokenizer = models.tokenizer_of(values.model)
      template = frames.CHAT if tokenizer.chat_template else config_lib.Training().template
      frame, positions = frames.load(template, tokenizer), models.config_of(values.model).max_positions
    found += room.audit_data(values.data, values.columns, tests, frame=frame, max_length=positions)
  for finding in sorted(found, key=lambda finding: room.SEVERITIES.index(finding.severity)):
    print(finding)
  counts = [sum(finding.severity == severity for finding in found) for severity in room.SEVERITIES]
  print(", ".join(f"{count} {severity}s" for count, severity in zip(counts, room.SEVERITIES, strict=True)))
  return 1 if counts[0] else 0
