"""The Hugging Face hub: models and data sets by `ORG/NAME[@REVISION][/FOLDER]`, and what is pushed there.

All that `huggingface_hub` heeds holds here: its cache (HF_HOME), HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE. Of a model only
safetensors, JSON and the tokenizer's files are fetched, never pickled weights or code.
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Sequence

from etils import epath

from skymath_jax import files
from skymath_jax.errors import UserError

MODEL_FILES = (
  "*.safetensors",
  "*.json",
  "*.model",
  "tokenizer.model*",
  "merges.txt",
  "vocab.txt",
  "*.jinja",
  "LICENSE*",
  "NOTICE*",
)
_PART = r"[A-Za-z0-9][\w.-]{0,95}"
_ID = re.compile(rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[\w.-]+))?(?P<folder>(?:/[\w.-]+)*)")


def is_id(text: str) -> bool:
  """Whether a name may be one of the hub; a folder of that name takes precedence, which is for the caller to see to."""
  return _ID.fullmatch(text) is not None and ".." not in text


def page(text: str) -> str:
  """The address where people read about a repository or data set."""
  endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
  return f"{endpoint}/{_parts(text)[0]}"


@functools.cache
def model(text: str, *names: str) -> epath.Path:
  """The local folder of a model's files, or of those that are called one of `names`; fetched unless they are there.

  Raises:
    UserError: no such model, a gated one, or no network and not in the cache.
  """
  import huggingface_hub

  repository, revision, folder = _parts(text)
  below = f"{folder}/" if folder else ""
  with _told(text):
    found = huggingface_hub.snapshot_download(
      repository,
      revision=revision,
      allow_patterns=[f"{below}{pattern}" for pattern in names or MODEL_FILES],
      ignore_patterns=None if folder else ["*/*"],
    )
  return epath.Path(found) / folder


@functools.cache
def files_of(text: str) -> tuple[str, ...]:
  """Names of all files of a data set, below the folder that `text` names; without the network, of those in the cache.

  Raises:
    UserError: no such data set, a gated one, or no network and not in the cache.
  """
  import huggingface_hub

  repository, revision, folder = _parts(text)
  with _told(text):
    if huggingface_hub.is_offline_mode():
      found = huggingface_hub.snapshot_download(
        repository, repo_type="dataset", revision=revision, allow_patterns=["/"]
      )  # nothing is called so: the folder, whatever lies in it
      root = epath.Path(found)
      names = [str(path.relative_to(root)) for path in sorted(files.files_below(root))]
    else:
      names = huggingface_hub.HfApi().list_repo_files(repository, repo_type="dataset", revision=revision)
  below = f"{folder}/" if folder else ""
  return tuple(name.removeprefix(below) for name in sorted(names) if name.startswith(below))


def data_set(text: str, names: Sequence[str]) -> epath.Path:
  """The local folder in which these files of a data set lie (as `files_of` names them), fetched where they do not.

  Raises:
    UserError: as `files_of`.
  """
  import huggingface_hub

  repository, revision, folder = _parts(text)
  below = f"{folder}/" if folder else ""
  with _told(text):
    found = huggingface_hub.snapshot_download(
      repository, repo_type="dataset", revision=revision, allow_patterns=[_literal(f"{below}{name}") for name in names]
    )
  return epath.Path(found) / folder


def push(folder: epath.PathLike, repository: str, *, kind: str = "model") -> str:
  """Uploads a folder to `ORG/NAME`, which is made, private, where there is none; returns its address.

  Raises:
    UserError: no right to write there, or no network.
  """
  import huggingface_hub

  with _told(repository):
    api = huggingface_hub.HfApi()
    if not api.repo_exists(repository, repo_type=kind):
      api.create_repo(repository, repo_type=kind, private=True)
    api.upload_folder(
      folder_path=os.fspath(folder),
      repo_id=repository,
      repo_type=kind,
      ignore_patterns=[".*"],
      commit_message="Made with skymath_jax",
    )
  return f"{page(repository)}" if kind == "model" else page(repository).replace(repository, f"{kind}s/{repository}")


def _parts(text: str) -> tuple[str, str | None, str]:
  found = _ID.fullmatch(text)
  if found is None:
    raise UserError("this is no id of the hub", where=text, remedy="write ORG/NAME or ORG/NAME@REVISION")
  return found["repository"], found["revision"], found["folder"].strip("/")


def _literal(name: str) -> str:
  return re.sub(r"([*?[])", r"[\1]", name)


@contextlib.contextmanager
def _told(text: str) -> Iterator[None]:
  """Turns what the hub, the network or the cache refuses into one paragraph."""
  import huggingface_hub
  from huggingface_hub import errors

  try:
    yield
  except errors.GatedRepoError:
    remedy = f"accept its licence at {page(text)}, then set HF_TOKEN to a token of that account"
    raise UserError("this repository is gated", where=text, remedy=remedy) from None
  except errors.RevisionNotFoundError:
    remedy = "name a branch, a tag or a commit that exists"
    raise UserError("the hub has no such revision of it", where=text, remedy=remedy) from None
  except errors.RepositoryNotFoundError:
    what = "no such folder here, and no such repository on the hub"
    remedy = "check the name; for a private one set HF_TOKEN"
    raise UserError(what, where=text, remedy=remedy) from None
  except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
    why = "HF_HUB_OFFLINE is set" if huggingface_hub.is_offline_mode() else "the hub is not reached"
    remedy = "check the path; of a hub id, fetch it once with the network, or name a folder"
    raise UserError(f"no such folder here, nor in the hub's cache ({why})", where=text, remedy=remedy) from None
  except UserError:
    raise
  except Exception as error:  # the network's, by the names of whatever HTTP client the library has
    what = f"the hub did not give it ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    raise UserError(what, where=text, remedy="try again; HF_HUB_OFFLINE=1 takes what is in the cache") from None
