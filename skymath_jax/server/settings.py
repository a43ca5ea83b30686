"""How a server listens, whom it lets in, and how it treats those that wait."""

import contextlib
import dataclasses
import hmac
import ipaddress
import os
import re
import secrets
import socket
import ssl
from pathlib import Path

import grpc

from skymath_jax import prompts
from skymath_jax.console import log
from skymath_jax.errors import UserError

TOKEN_FILE = "~/.config/skymath/token"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerSettings:
  """What a server does besides decoding; `check` it before use.

  Args:
    host: address to listen on; loopback unless `allow_remote`.
    port, http_port: of gRPC and of HTTP; 0 takes any free one.
    allow_remote: says that other machines may reach it.
    tls_certificate, tls_key: PEM files; both or neither.
    token: bearer token that callers must show; empty lets everybody in, which beyond loopback `without_token` must say.
    without_token: says that this is meant.
    queue_size: requests that may wait for a slot; more are refused.
    chat_frame: prompt frame of chat messages, where the tokenizer has no chat template.
    drain_seconds: how long requests may take to finish after SIGTERM; what is left then ends as UNAVAILABLE.
  """

  host: str = "127.0.0.1"
  port: int = 9000
  http_port: int = 0
  allow_remote: bool = False
  tls_certificate: str = ""
  tls_key: str = ""
  token: str = dataclasses.field(default="", repr=False)
  without_token: bool = False
  queue_size: int = 4096
  chat_frame: str = "sft/alpaca"
  drain_seconds: float = 8.0

  def check(self) -> None:
    """Finds all that can be found before minutes of compilation.

    Raises:
      UserError: a number with which nothing can be served, a port cannot be had, no such prompt frame, the host is not
        loopback and nobody said that this is meant, or the TLS files cannot be used.
    """
    for name, minimum in {"queue_size": 1, "drain_seconds": 0}.items():
      if not getattr(self, name) >= minimum:
        raise UserError(f"{getattr(self, name)} is too small", where=name, remedy=f"give {minimum} or more")
    prompts.load(self.chat_frame)
    if not self.allow_remote and not is_loopback(self.host):
      raise UserError(
        f"{self.host} can be reached from other machines",
        where="host",
        remedy="say --allow_remote if that is meant, best with --tls_certificate",
      )
    if not self.token and not self.without_token and not is_loopback(self.host):
      what, remedy = "other machines would be let in without a token", "set SKYMATH_TOKEN, or say --without_token"
      raise UserError(what, where="token", remedy=remedy)
    if bool(self.tls_certificate) != bool(self.tls_key):
      raise UserError("TLS needs a certificate and its key", where="tls_certificate", remedy="give both files")
    self.http_credentials()
    check_free(self.host, self.port, "port")
    check_free(self.host, self.http_port, "http_port")

  def admits(self, authorization: str | None) -> bool:
    """Whether a call with this `Authorization` may be served."""
    shown = (authorization or "").encode(errors="surrogateescape")  # so do headers come that are not UTF-8
    return not self.token or hmac.compare_digest(shown, f"Bearer {self.token}".encode())

  def grpc_credentials(self) -> grpc.ServerCredentials | None:
    """For gRPC; None without TLS."""
    if not self.tls_certificate:
      return None
    key, chain = Path(self.tls_key).read_bytes(), Path(self.tls_certificate).read_bytes()
    return grpc.ssl_server_credentials([(key, chain)])

  def http_credentials(self) -> ssl.SSLContext | None:
    """For HTTP; None without TLS.

    Raises:
      UserError: the files cannot be used.
    """
    if not self.tls_certificate:
      return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
      context.load_cert_chain(self.tls_certificate, self.tls_key)
    except (OSError, ssl.SSLError) as error:
      raise UserError(
        f"certificate and key cannot be used ({error})", where=self.tls_certificate, remedy="give PEM files that belong"
      ) from None
    return context


def made_token() -> str:
  """The token of this user's servers: made once, kept in a file that nobody else can read, shown when it is made.

  Raises:
    UserError: the file holds something else, or cannot be read.
  """
  path = Path(TOKEN_FILE).expanduser()
  if made := not os.path.lexists(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
      f.write(secrets.token_urlsafe(32) + "\n")
    with contextlib.suppress(FileExistsError):  # of two servers that start at once the first one's stays
      os.link(new, path)
    new.unlink()
  try:
    if path.stat().st_mode & 0o077:
      path.chmod(0o600)
      log(f"warning: others could read {path}; remove it to have a new token made")
    token = path.read_text().strip()
  except (OSError, ValueError):  # ValueError: no UTF-8
    token = ""
  if not re.fullmatch("[!-~]+", token):
    raise UserError("this is no token", where=path, remedy="remove it: a new one is made")
  if made:
    log(f"made a token for clients, kept in {path}: {token}")
  log(f"clients need SKYMATH_TOKEN=$(cat {path})")
  return token


def is_loopback(host: str) -> bool:
  """Whether only this machine can reach `host`."""
  if host == "localhost":
    return True
  try:
    return ipaddress.ip_address(host.strip("[]")).is_loopback
  except ValueError:
    return False


def joined(host: str, port: int) -> str:
  """`host:port`; an address with colons of its own stands in brackets."""
  host = host.strip("[]")
  return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def in_use(host: str, port: int, flag: str) -> UserError:
  """What to tell a user whose port cannot be had."""
  return UserError(
    f"cannot listen on {joined(host, port)}",
    where=flag,
    remedy=f"another program uses it, or the host is not of this machine: choose another {flag}, or 0",
  )


def check_free(host: str, port: int, flag: str) -> None:
  """Asks the system for the port.

  Raises:
    UserError: it is in use or not allowed.
  """
  with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind((host.strip("[]"), port))
    except (OSError, OverflowError, TypeError, ValueError):  # the last two: no host at all
      raise in_use(host, port, flag) from None
