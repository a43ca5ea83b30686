"""Where a server listens and whom it lets in."""

import dataclasses
import ipaddress
import socket
import ssl
from pathlib import Path

import grpc

from skymath_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listening:
  """Addresses and protection of a server; `checked` before use.

  Args:
    host: address to listen on; loopback unless `allow_remote`.
    port, http_port: of gRPC and of HTTP; 0 takes any free one.
    allow_remote: says that other machines may reach it.
    tls_certificate, tls_key: PEM files; both or neither.
    token: bearer token that callers must show; empty lets everybody in.
  """

  host: str = "127.0.0.1"
  port: int = 9000
  http_port: int = 0
  allow_remote: bool = False
  tls_certificate: str = ""
  tls_key: str = ""
  token: str = ""

  def checked(self) -> "Listening":
    """Itself, after all that can be found out before minutes of compilation.

    Raises:
      UserError: a port cannot be had, the host is not loopback and nobody said that this is meant, or the TLS files
        cannot be used.
    """
    if not self.allow_remote and not is_loopback(self.host):
      raise UserError(
        f"{self.host} can be reached from other machines",
        where="host",
        remedy="say --allow_remote if that is meant, best with a token (SKYMATH_TOKEN) and --tls_certificate",
      )
    if bool(self.tls_certificate) != bool(self.tls_key):
      raise UserError("TLS needs a certificate and its key", where="tls_certificate", remedy="give both files")
    self.http_credentials()
    for flag in ("port", "http_port"):
      check_free(self.host, getattr(self, flag), flag)
    return self

  def grpc_credentials(self) -> grpc.ServerCredentials | None:
    """For gRPC; None without TLS."""
    if not self.tls_certificate:
      return None
    key, chain = Path(self.tls_key).read_bytes(), Path(self.tls_certificate).read_bytes()
    return grpc.ssl_server_credentials([(key, chain)])

  def http_credentials(self) -> ssl.SSLContext | None:
    """For HTTP; None without TLS."""
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


def is_loopback(host: str) -> bool:
  """Whether only this machine can reach `host`."""
  if host == "localhost":
    return True
  try:
    return ipaddress.ip_address(host.strip("[]")).is_loopback
  except ValueError:
    return False


def in_use(host: str, port: int, flag: str) -> UserError:
  """What to tell a user whose port cannot be had."""
  return UserError(
    f"cannot listen on {host}:{port}",
    where=flag,
    remedy=f"another program uses it, or the host is not of this machine: choose another {flag}, or 0",
  )


def check_free(host: str, port: int, flag: str) -> None:
  """Raises `UserError` if the port is in use or not allowed."""
  with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind((host.strip("[]"), port))
    except (OSError, OverflowError):
      raise in_use(host, port, flag) from None
