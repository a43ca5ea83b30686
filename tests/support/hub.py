"""A hub on this machine: speaks as much of the Hugging Face hub's HTTP interface as huggingface_hub needs.

`root/models/ORG/NAME/…` and `root/datasets/ORG/NAME/…` are its repositories, with one revision, `main`. A repository
whose name holds `gated` is refused as the hub refuses one; `asked` keeps what was asked for.
"""

import contextlib
import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

COMMIT = "c" * 40


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  server: "_Server"

  def log_message(self, *_):
    pass

  def do_HEAD(self):
    self.do_GET()

  def do_GET(self):
    path, _, query = self.path.partition("?")
    parts = urllib.parse.unquote(path).strip("/").split("/")
    self.server.asked.append(f"{self.command} {self.path}")
    if parts[0] == "api":
      self._about(parts[1], parts[2:], query)
    else:
      kind, parts = ("datasets", parts[1:]) if parts[0] == "datasets" else ("models", parts)
      self._file(self.server.root / kind / parts[0] / parts[1], parts[2:])

  def _about(self, kind, parts, query):
    repository = self.server.root / kind / parts[0] / parts[1]
    if self._refused(repository, parts[3] if len(parts) > 3 else "main"):
      return
    names = sorted(str(p.relative_to(repository)) for p in repository.rglob("*") if p.is_file())
    if "tree" in parts:
      found = [
        {"type": "file", "path": n, "size": (repository / n).stat().st_size, "oid": _etag(repository / n)}
        for n in names
      ]
      self._answer(200, json.dumps(found).encode())
    else:
      about = {"_id": "1", "id": f"{parts[0]}/{parts[1]}", "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}
      self._answer(200, json.dumps(about).encode())

  def _file(self, repository, parts):
    path = repository / "/".join(parts[2:])
    if self._refused(repository, parts[1]):
      return
    if not path.is_file():
      self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
      return
    self._answer(200, path.read_bytes(), {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": COMMIT})

  def _refused(self, repository, revision):
    code = "GatedRepo" if "gated" in repository.name else "" if repository.is_dir() else "RepoNotFound"
    code = code or ("" if revision in ("main", COMMIT) else "RevisionNotFound")
    if code:
      self._answer(403 if code == "GatedRepo" else 404, b'{"error": "no"}', {"X-Error-Code": code})
    return bool(code)

  def _answer(self, status, body, headers=None):
    self.send_response(status)
    for name, value in {
      "Content-Type": "application/json",
      "Content-Length": str(len(body)),
      **(headers or {}),
    }.items():
      self.send_header(name, value)
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(body)


def _etag(path: Path) -> str:
  return hashlib.sha1(path.read_bytes()).hexdigest()


class _Server(http.server.ThreadingHTTPServer):
  daemon_threads = True
  root: Path
  asked: list[str]


@contextlib.contextmanager
def serving(root: Path, monkeypatch) -> Iterator[_Server]:
  """The hub of `root` while the block runs; huggingface_hub in this process asks it, with a new cache below `root`."""
  from huggingface_hub import constants, hf_api

  server = _Server(("127.0.0.1", 0), _Handler)
  server.root, server.asked = root, []
  threading.Thread(target=server.serve_forever, daemon=True).start()
  address = f"http://127.0.0.1:{server.server_port}"
  monkeypatch.setattr(constants, "ENDPOINT", address)
  monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root / "cache"))
  monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
  monkeypatch.setenv("HF_ENDPOINT", address)
  monkeypatch.setattr(hf_api.api, "endpoint", address)
  try:
    yield server
  finally:
    server.shutdown()
    server.server_close()
