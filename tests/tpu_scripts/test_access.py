"""Who gets in: tokens, certificates, firewalls, and the checksum of the code, against the scripted cloud."""

import contextlib
import hashlib
import ssl

import pytest

from tests.support.cloud import SECRET


def test_no_secret_reaches_a_call_or_a_file(cloud):
  cloud.run("reproduce")
  for path in cloud.folder.rglob("*"):
    if path.is_file() and path.stat().st_size < 1e6:
      assert SECRET not in path.read_text(errors="replace"), path


def test_replicas_and_their_client_have_one_token_that_nobody_else_reads(cloud):
  settings = {"TEACHER_TYPE": "v5e-16"}
  cloud.run("create", "teacher", **settings)
  cloud.run("setup", "teacher", **settings)
  for _ in range(2):  # a second start keeps the token that the running ones know
    cloud.run("serve", **settings)
    files = sorted((cloud.folder / "hosts").glob("t-teacher-w*/skymath/token"))
    tokens = {path.read_text() for path in files}
    assert len(files) == 4 and tokens == {cloud.get("secrets/t-token")} and len(tokens.pop()) >= 40
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
  assert not any(cloud.get("secrets/t-token") in call for call in cloud.calls())


@pytest.mark.slow
def test_each_replica_has_a_certificate_for_its_address_that_the_client_believes(cloud):
  settings = {"TEACHER_TYPE": "v5e-16"}
  cloud.run("create", "teacher", **settings)
  cloud.run("setup", "teacher", **settings)
  cloud.run("serve", **settings)
  homes = sorted(path.parent for path in (cloud.folder / "hosts").glob("t-teacher-w*/skymath/host.pem"))
  assert len(homes) == 4 and len({(home / "host.key").read_text() for home in homes}) == 4
  for home in homes:
    assert handshake(home, homes[0] / "authority.pem", "10.0.0.2")
    assert not handshake(home, homes[0] / "authority.pem", "10.0.0.3")
    assert {path.stat().st_mode & 0o777 for path in home.glob("host.*")} == {0o600}
    assert "PRIVATE KEY" not in (home / "authority.pem").read_text()
  kept = [(home / "host.pem").read_text() for home in homes]
  cloud.run("serve", **settings)
  assert [(home / "host.pem").read_text() for home in homes] == kept
  assert not any("PRIVATE KEY" in call for call in cloud.calls())


def handshake(home, authority, address):
  """Whether a client that believes `authority` takes the host's certificate for that of `address`."""
  server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=authority)
  server.load_cert_chain(home / "host.pem", home / "host.key")
  to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
  ends = [server.wrap_bio(to_server, to_client, True), client.wrap_bio(to_client, to_server, False, address)]
  for _ in range(4):
    for end in ends:
      with contextlib.suppress(ssl.SSLWantReadError):
        try:
          end.do_handshake()
        except ssl.SSLError as error:
          if not isinstance(error, ssl.SSLWantReadError):
            return False
  return True


def test_the_slices_of_a_name_are_behind_a_wall(cloud):
  cloud.run("create", NETWORK="research", INTERNAL_IPS="yes")
  (order,) = cloud.calls("create t-train")
  assert "--tags=t " in order and "--network=research" in order and "--internal-ips" in order
  rules = cloud.state()["firewall"]
  assert {rule["--target-tags"] for rule in rules.values()} == {"t"}
  within, without = rules["t-within"], rules["t-without"]
  assert within["--source-tags"] == "t" and int(within["--priority"]) < int(without["--priority"]) < 1000
  assert without["--action"] == "deny" and "tcp:1-21,tcp:23-65535" in without["--rules"]
  cloud.run("create", "teacher")
  assert len(cloud.calls("firewall-rules create")) == 2
  cloud.run("delete", "train")
  assert len(cloud.state()["firewall"]) == 2
  cloud.run("delete")
  assert cloud.nothing_left() and not cloud.state()["firewall"]


def test_a_wall_that_may_not_be_put_up_is_told_before_anything_is_rented(cloud):
  cloud.faults({"when": "firewall-rules create", "times": 99, "say": "ERROR: Required 'compute.firewalls.create'"})
  said = cloud.run("create", code=1)
  assert "compute.firewalls.create" in said and "FIREWALL=no" in said and not cloud.calls("tpu-vm create")
  cloud.run("create", FIREWALL="no")
  assert cloud.calls("tpu-vm create")


def test_code_that_is_not_what_was_sent_is_not_unpacked(cloud):
  cloud.run("create")
  cloud.run("setup")
  [archive] = (cloud.folder / "bucket").rglob("code/*.tar.gz")
  [command] = [call for call in cloud.calls("on_worker install")][:1]
  assert "sha256sum --check" in command and hashlib.sha256(archive.read_bytes()).hexdigest() in command
