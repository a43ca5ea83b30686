"""One owner of a workdir in a bucket: who comes second is refused, who is gone is followed, who is overtaken stops."""

import json
import threading
import time

import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem

from skymath_jax import lease
from skymath_jax.errors import UserError
from skymath_jax.lease import Lease


class Bucket(MemoryFileSystem):
  """A bucket of one test's own."""

  cachable, pseudo_dirs = False, [""]

  def __init__(self):
    super().__init__()
    self.store = {}


@pytest.fixture
def bucket(monkeypatch):
  monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.2)
  monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)
  return Bucket()


def of(bucket, host, monkeypatch):
  monkeypatch.setattr("socket.gethostname", lambda: host)
  return Lease(bucket, "/b/runs/a", "gs://b/runs/a")


def owner(bucket):
  return json.loads(bucket.cat_file(f"/b/runs/a/{lease.OWNER}"))


def test_the_second_is_told_who_works_here_and_since_when(bucket, monkeypatch):
  first, second = of(bucket, "one", monkeypatch), of(bucket, "two", monkeypatch)
  with first.held():
    with (
      pytest.raises(UserError, match=r"process \d+ on one works here \(since 0 s, last seen 0 s ago\)"),
      second.held(),
    ):
      pass
    assert owner(bucket)["host"] == "one"
  with second.held():  # the first has given it back
    assert owner(bucket)["host"] == "two"
  assert not bucket.exists(f"/b/runs/a/{lease.OWNER}")


def test_an_owner_that_lives_renews_and_one_that_is_gone_is_followed(bucket, monkeypatch):
  gone = of(bucket, "one", monkeypatch)
  gone.acquire()  # killed: neither renewed nor given back
  other = of(bucket, "two", monkeypatch)
  monkeypatch.setattr(lease, "LEASE_SECONDS", 0.5)
  with pytest.raises(UserError, match="works here"), other.held():
    pass
  time.sleep(0.6)
  with other.held():
    time.sleep(0.7)
    assert time.time() - owner(bucket)["renewed"] < 0.5
    with pytest.raises(UserError, match="on two works here"), of(bucket, "three", monkeypatch).held():
      pass


def test_the_same_local_copy_and_who_says_so_take_over_at_once(bucket, monkeypatch, tmp_path):
  def here(name, copy):
    monkeypatch.setattr("socket.gethostname", lambda: name)
    return Lease(bucket, "/b/runs/a", "gs://b/runs/a", epath.Path(tmp_path) / copy)

  first = here("one", "copy")
  monkeypatch.setattr(bucket, "rm_file", lambda path: (_ for _ in ()).throw(OSError("killed")))
  with first.held():
    pass
  with (
    pytest.raises(UserError, match="on one works here"),
    here("one", "another copy").held(),  # another machine of this name, or another SKYMATH_SCRATCH
  ):
    pass
  with here("one", "copy").held():
    assert owner(bucket)["host"] == "one"
  monkeypatch.setenv(lease.TAKE_OVER, "1")
  with of(bucket, "two", monkeypatch).held():
    assert owner(bucket)["host"] == "two"


@pytest.mark.parametrize("hours", [-5, 5])
def test_an_owner_whose_clock_is_wrong_is_seen_to_live(bucket, monkeypatch, hours):
  monkeypatch.setattr(lease, "RENEW_SECONDS", 0.3)  # long enough for a thread to have its turn on a busy machine
  first, second = of(bucket, "one", monkeypatch), of(bucket, "two", monkeypatch)
  right = vars(lease.Lease)["_content"]
  wrong = lambda: json.dumps({**json.loads(right(first)), "renewed": later(hours)}).encode()  # noqa: E731
  monkeypatch.setattr(first, "_content", wrong)
  with first.held(), pytest.raises(UserError, match="on one works here"), second.held():
    pass
  first.acquire()  # and killed
  with second.held():
    assert owner(bucket)["host"] == "two"


def later(hours):
  return time.time() + 3600 * hours


@pytest.mark.parametrize(
  "content",
  [
    b"", b"\xff\x00", b"[1]", b"null", b"[" * 100_000, b'{"renewed": 1e999}', b'{"since": NaN, "renewed": NaN}',
    b'{"renewed": ' + b"9" * 400 + b"}", b'{"renewed": "now", "host": ["a"]}', b'{"renewed": -5}',
  ],
)  # fmt: skip
def test_an_object_that_says_nothing_of_use_is_followed(bucket, monkeypatch, content):
  bucket.pipe_file(f"/b/runs/a/{lease.OWNER}", content)
  with of(bucket, "one", monkeypatch).held():
    assert owner(bucket)["host"] == "one"


def test_a_refusal_has_one_plain_line(bucket, monkeypatch):
  bucket.pipe_file(f"/b/runs/a/{lease.OWNER}", json.dumps({"host": "\x1b[31m\n" * 99, "renewed": later(0.01)}).encode())
  with pytest.raises(UserError) as error, of(bucket, "one", monkeypatch).held():
    pass
  assert str(error.value).isprintable() and len(str(error.value)) < 400 and "last seen 0 s ago" in str(error.value)


def test_who_was_cut_off_for_long_asks_before_it_writes(bucket, monkeypatch):
  first, second = of(bucket, "one", monkeypatch), of(bucket, "two", monkeypatch)
  monkeypatch.setattr(lease, "RENEW_SECONDS", 60.0)  # its next renewal would tell, but is not yet due
  with first.held():
    bucket.rm_file(f"/b/runs/a/{lease.OWNER}")
    first.require()  # nobody else's name is there
    second.acquire()
    with pytest.raises(UserError, match="on two has taken this workdir over"):
      first.require()
  assert owner(bucket)["host"] == "two"  # what is another's is left at the end


def test_of_many_that_come_at_once_one_owns(bucket, monkeypatch):
  def outcomes(before):
    if before:  # all of them find one that is gone
      of(bucket, "gone", monkeypatch).acquire()
      monkeypatch.setattr(lease, "LEASE_SECONDS", -1.0)
    leases = [of(bucket, f"host{i}", monkeypatch) for i in range(16)]
    start, found, done = threading.Barrier(16), [], threading.Event()

    def one(mine):
      start.wait()
      try:
        with mine.held():
          found.append("owns")
          done.wait(5)
      except UserError:
        found.append("refused")

    threads = [threading.Thread(target=one, args=(mine,)) for mine in leases]
    for thread in threads:
      thread.start()
    while len(found) < 16:
      time.sleep(0.01)
    done.set()
    for thread in threads:
      thread.join()
    return sorted(found)

  assert outcomes(False) == outcomes(True) == ["owns"] + ["refused"] * 15


def test_who_is_overtaken_stops_and_writes_no_more(bucket, monkeypatch):
  stopped = threading.Event()
  monkeypatch.setattr(lease, "_stop_main", stopped.set)
  first = of(bucket, "one", monkeypatch)
  with first.held():
    monkeypatch.setenv(lease.TAKE_OVER, "1")
    second = of(bucket, "two", monkeypatch)
    second.acquire()
    assert stopped.wait(5)
    with pytest.raises(UserError, match="on two has taken this workdir over"):
      first.require()
  assert owner(bucket)["host"] == "two"  # what is another's is left
