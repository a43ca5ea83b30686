"""The flags of a verb: declared, parsed, and refused with the nearest valid name."""

import ast
import dataclasses
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from skymath_jax import config as config_lib
from skymath_jax.errors import UsageError, UserError


@dataclasses.dataclass(frozen=True)
class Flag:
  """One command-line flag; `default=None` with `required` means it must be given."""

  name: str
  default: str | int | float | bool | None
  help: str
  required: bool = False


WORKDIR = Flag("workdir", None, "folder of the run: everything it makes, and what it resumes from", required=True)


def parse(argv: Sequence[str], *wanted: Flag, config: str | None = None) -> flags.FlagValues:
  """Parses `argv[1:]`; `config` is None (the verb takes none), "required" or "optional".

  Raises:
    UsageError: an unknown or malformed flag, or a required one that is missing.
    UserError: the config file is missing or broken, or an override names an unknown key.
  """
  values = flags.FlagValues()
  define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, bool: flags.DEFINE_boolean}
  for flag in wanted:
    define.get(type(flag.default), flags.DEFINE_string)(flag.name, flag.default, flag.help, flag_values=values)
  if config:
    _refuse_bad_config(argv)
    config_flags.DEFINE_config_file("config", None, "experiment file", flag_values=values)
  if "--help" in argv or "-h" in argv:
    _print_help(argv[0], wanted, config)
    raise SystemExit(0)
  given, sys.argv = sys.argv, list(argv)  # config_flags looks there for the overrides
  try:
    rest = values(list(argv))
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    _explain_override(argv)
    raise UsageError(f"{_one_line(error)} See skymath {argv[0]} --help.") from None
  finally:
    sys.argv = given
  if len(rest) > 1:
    raise UsageError(f"did not expect {rest[1]!r}; flags are written --name=value. See skymath {argv[0]} --help.")
  missing = [f.name for f in wanted if f.required and getattr(values, f.name) is None]
  missing += ["config"] if config == "required" and values.config is None else []
  if missing:
    raise UsageError(f"--{missing[0]} is missing. See skymath {argv[0]} --help.")
  if config and values.config is not None:
    config_lib.check(values.config)
  return values


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split()).rstrip(".") + "."


def _print_help(verb: str, wanted: Sequence[Flag], config: str | None) -> None:
  print(f"usage: skymath {verb} [flags]\n")
  if config:
    print(f"  --config=FILE            experiment file ({config})")
    print("  --config.KEY=VALUE       changes a key; skymath config lists them")
  for flag in wanted:
    note = "required" if flag.required else f"default {flag.default!r}"
    print(f"  {'--' + flag.name + '=':<25}{flag.help} ({note})")
  print(f"  {'--debug':<25}show the traceback of a failure")


def _refuse_bad_config(argv: Sequence[str]) -> None:
  """Says what is wrong with the file before absl wraps it into something longer."""
  for argument in argv:
    if argument.startswith("--config="):
      path = Path(argument.removeprefix("--config="))
      if not path.is_file():
        raise UserError("no such config file", where=path, remedy="see the folder configs/")
      try:
        spec = importlib.util.spec_from_file_location("skymath_experiment", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config_lib.check(module.get_config())
      except (AttributeError, KeyError, TypeError, SyntaxError, ImportError) as error:
        what = f"not a usable experiment file ({_one_line(error)})"
        raise UserError(what, where=path, remedy="see the folder configs/") from None


def _explain_override(argv: Sequence[str]) -> None:
  """Raises `UserError` for the first override of a key that does not exist, or else with a value that does not fit."""
  defaults = config_lib.flatten(config_lib.base())
  given = [a.removeprefix("--config.").partition("=")[::2] for a in argv if a.startswith("--config.")]
  for key, _ in given:
    if key not in defaults:
      remedy = f"did you mean config.{config_lib.nearest(key)}? `skymath config` lists all"
      raise UserError("no such key", where=f"config.{key}", remedy=remedy)
  for key, value in given:
    wanted = type(defaults[key])
    if wanted is tuple and not value.startswith(("(", "[")):
      continue  # one word is a tuple of one
    try:
      right = ast.literal_eval(value) if wanted in (int, float, bool, tuple) else value
    except (ValueError, SyntaxError):
      right = None
    if not isinstance(right, (int, float) if wanted is float else wanted):
      raise UserError(
        f"{value!r} is not of type {wanted.__name__}", where=f"config.{key}", remedy=f"e.g. {defaults[key]!r}"
      )
