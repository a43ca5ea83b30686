"""The flags of a verb: declared, parsed, and refused with the nearest valid name."""

import ast
import contextlib
import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from skymath_jax import config as config_lib
from skymath_jax import hub
from skymath_jax.cli import shipped
from skymath_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Flag:
  """One command-line flag; `default=None` with `required` means it must be given."""

  name: str
  default: str | int | float | bool | None
  help: str
  required: bool = False


WORKDIR = Flag("workdir", None, "folder of the run: everything it makes, and what it resumes from", required=True)
PUSH = Flag("push", "", "ORG/NAME of the Hugging Face hub to upload it to (HF_TOKEN); made, private, if new")


class Values(types.SimpleNamespace):
  """The value of each flag by its name; `config` is the resolved experiment, or None without `--config`."""

  config: config_lib.Experiment | None = None


def for_keys(argv: Sequence[str], keys: Mapping[Flag, str]) -> list[str]:
  """The words with `--config.KEY=VALUE` for every flag that is another name of a key."""
  words, names = list(argv), {f"--{flag.name}": key for flag, key in keys.items()}
  for i, word in enumerate(words):
    name, equals, value = word.partition("=")
    if name in names:
      following = words[i + 1 : i + 2] if not equals else []
      words[i] = f"--config.{names[name]}={value or ''.join(following)}"
      words[i + 1 : i + 1 + len(following)] = []
  return words


def require_repository(name: str) -> None:
  """Looks whether `--push` names a repository, before hours of work.

  Raises:
    UsageError: it is none.
  """
  if name and (not hub.is_id(name) or name.count("/") != 1 or "@" in name):
    raise UsageError(f"--push={name}: write ORG/NAME.")


def parse(argv: Sequence[str], *wanted: Flag, config: str | None = None, also: Sequence[Flag] = ()) -> Any:
  """Parses `argv[1:]` into `Values`; `config` is None (the verb takes none), "required" or "optional".

  Where it is optional, `--config.KEY=VALUE` without `--config` changes the defaults.

  `also` are those that `for_keys` has replaced: only told in the help.

  Raises:
    UsageError: an unknown or malformed flag, or a required one that is missing.
    UserError: the config file is missing or broken, or an override names an unknown key.
  """
  values = flags.FlagValues()
  define: dict[type, Callable[..., Any]] = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_boolean,
  }
  for flag in wanted:
    define.get(type(flag.default), flags.DEFINE_string)(flag.name, flag.default, flag.help, flag_values=values)
  if "--help" in argv or "-h" in argv:
    _print_help(argv[0], (*wanted, *also), config)
    raise SystemExit(0)
  argv = [_underscored(word) for word in argv]
  file, words = _config_file(argv) if config else ("", list(argv))
  experiment = _loaded(file, words) if file else config_lib.base() if config and _overrides(words) else None
  try:
    if experiment is not None:
      config_flags.DEFINE_config_dict("config", experiment, flag_values=values, sys_argv=words)
    rest = values(words)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    check_overrides(words)
    raise UsageError(f"{_one_line(error)} See skymath {argv[0]} --help.") from None
  if len(rest) > 1:
    raise UsageError(f"did not expect {rest[1]!r}; flags are written --name=value. See skymath {argv[0]} --help.")
  missing = [f.name for f in wanted if f.required and getattr(values, f.name) is None]
  missing += ["config"] if config == "required" and not file else []
  if missing:
    raise UsageError(f"--{missing[0]} is missing. See skymath {argv[0]} --help.")
  found = Values(**{flag.name: getattr(values, flag.name) for flag in wanted})
  if experiment is not None:
    found.config = config_lib.resolve(values.config)
  return found


def _underscored(word: str) -> str:
  """A flag with its name as it is declared: `--dry-run` is `--dry_run`."""
  name, equals, value = word.partition("=")
  return f"--{name[2:].replace('-', '_')}{equals}{value}" if name.startswith("--") else word


def with_first(argv: Sequence[str], name: str) -> list[str]:
  """`argv` with the word after the verb as the flag `name`, if it is no flag itself."""
  verb, *words = argv
  return [verb, *([f"--{name}={words[0]}", *words[1:]] if words and not words[0].startswith("-") else words)]


def _config_file(argv: Sequence[str]) -> tuple[str, list[str]]:
  """(FILE or FILE:HARDWARE of `--config`, empty without; the other words)."""
  file, words, rest = "", [], iter(argv)
  for word in rest:
    name, equals, value = word.partition("=")
    if name in ("--config", "-config"):
      file = value if equals else next(rest, "")
    else:
      words.append(word)
  return file, words


def _loaded(file: str, words: Sequence[str]) -> ConfigDict:
  """The config of FILE or FILE:HARDWARE, sound as it stands, with a place for every mapping's entry in `words`."""
  path, _, hardware = file.partition(":")
  config = config_lib.load(shipped.recipe(path), *([hardware] if hardware else []))
  config_lib.resolve(config)
  for name, _ in _overrides(words):
    group, _, entry = name.rpartition(".")
    key = config_lib.KEYS.get(group)
    if key is not None and key.kind is dict:
      section, _, field = group.rpartition(".")
      entries = config[section][field]
      entries[entry] = entries.get(entry, key.entry(entry).default)
  return config


def _overrides(words: Sequence[str]) -> list[tuple[str, str]]:
  """(key, text) of every `--config.KEY=TEXT`."""
  return [(name, text) for w in words if w.startswith("--config.") for name, _, text in [w[9:].partition("=")]]


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split()).rstrip(".") + "."


def _print_help(verb: str, wanted: Sequence[Flag], config: str | None) -> None:
  print(f"usage: skymath {verb} [flags]\n")
  if config:
    print(f"  --config=FILE[:HARDWARE] experiment file or shipped recipe, fitted to such as v5p-16 or h200 ({config})")
    print("  --config.KEY=VALUE       changes a key; skymath config lists them")
  for flag in wanted:
    note = "required" if flag.required else f"default {flag.default!r}"
    print(f"  {'--' + flag.name + '=':<25}{flag.help} ({note})")
  print(f"  {'--debug':<25}show the traceback of a failure")


def check_overrides(words: Sequence[str]) -> None:
  """Raises `UserError` for the first override of a key that does not exist, or else with a value that does not fit."""
  given = [(config_lib.find(name), text) for name, text in _overrides(words)]
  for key, text in given:
    if key.kind is dict or (key.kind is tuple and not text.startswith(("(", "["))):
      continue  # one word is a tuple of one
    value: Any = text
    if key.kind is not str:
      with contextlib.suppress(ValueError, SyntaxError):
        value = ast.literal_eval(text)
    key.checked(tuple(value) if isinstance(value, list) else value)
