"""Keys and tokens are in no message and no log, wherever a text that holds them is cut."""

import asyncio
import base64
import dataclasses
import logging
import time

import pytest

from skymath_jax.config import Experiment
from skymath_jax.errors import UserError
from skymath_jax.generation import jetstream, vendors
from skymath_jax.generation.redact import redacted
from skymath_jax.generation.types import Request
from skymath_jax.recipe import stages
from skymath_jax.server.incoming import OneLine
from tests.support.endpoint import KEY, ask, serving


def given_away(text, key=KEY, few=4):
  """Pieces of the key's beginning, or of anywhere in it, that a text shows."""
  return [key[i : i + few] for i in range(len(key) - few + 1) if key[i : i + few] in text]


@pytest.mark.parametrize("frame", ["bad key {}!", "Bearer {}", '{{"key":"{}"}}', "?key={}&x=1", "x{}", "'{}'"])
def test_a_key_is_hidden_wherever_its_text_is_cut(frame):
  whole = frame.format(KEY)
  for end in range(len(whole) + 1):
    assert not given_away(redacted(whole[:end], [KEY])), whole[:end]


def test_what_others_put_in_its_place_is_hidden():
  for form in (KEY[10:], KEY.upper(), KEY[:8] + "***" + KEY[-4:], KEY[:5] + "…" + KEY[-4:], KEY[:4] + "..." + KEY[-4:]):
    assert redacted(f"key {form} is wrong", [KEY]) == "key [key] is wrong"
  assert redacted("a%2Fb%2Bc of the query", ["a/b+c"]) == "[key] of the query"


def test_a_short_key_hides_itself_and_no_other_word():
  assert redacted("x marks ax, x", ["x"]) == "[key] marks ax, [key]"
  assert redacted("nothing here", ["", "k"]) == "nothing here"


def test_a_piece_from_the_midst_and_a_packed_key_are_hidden():
  assert redacted(f"got …{KEY[6:-6]} there", [KEY]) == "got [key] there"
  packed = [base64.b64encode(f"{user}:{KEY}".encode()).decode() for user in ("", "a", "ab", "user")]
  for form in packed:
    for end in range(16, len(form)):
      assert not any(piece in redacted(f"Basic {form[:end]}", [KEY]) for piece in given_away(form, form[8:], few=8))
  for header in (f"Bearer {KEY}", f"Basic {packed[3]}"):
    for end in range(len(KEY) + 1):
      assert not given_away(redacted(f"no: {KEY[:end]}", [header]))
      assert not given_away(redacted(f"no: {header.split()[1][:end]}", [header]), header.split()[1])


@pytest.mark.parametrize("piece", [KEY[:4], KEY[:4] + "*", KEY[:7], KEY[-7:] + "x", "a", "a-", KEY[1:8]])
def test_hiding_takes_time_in_proportion_to_the_text(piece):
  text = piece * (200_000 // len(piece))
  start = time.process_time()
  redacted(text, [KEY, f"Bearer {KEY}"])
  assert time.process_time() - start < 5  # once a minute and a half for half of it


@pytest.mark.parametrize(
  "teacher",
  [
    {"parameters": f'{{"headers": {{"Authorization": "Bearer {KEY}"}}}}'},
    {"parameters": f'{{"query": {{"key": "{KEY}"}}}}'},
    {"parameters": f'{{"headers": {{"Ocp-Apim-Subscription-Key": "{KEY}"}}}}'},
    {"api_key_variable": KEY},
    {"base_url": f"https://user:{KEY}@host.example/v1"},
    {"base_url": f"https://host.example/v1?key={KEY}"},
  ],
)
def test_a_key_in_the_config_is_refused_before_it_is_in_the_workdir(tmp_path, teacher):
  config = dataclasses.replace(Experiment(), teacher=dataclasses.replace(Experiment().teacher, **teacher))
  with pytest.raises(UserError) as error:
    stages.perform([], config, tmp_path)
  assert not given_away(str(error.value)) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [400, 403, 500])
def test_an_endpoint_that_says_the_key(monkeypatch, status):
  monkeypatch.setenv("TEST_KEY", KEY)
  for end in range(0, len(KEY) + 1, 6):
    [error], _, _ = ask(lambda _, end=end: (status, f"no: {KEY[:end]}", {}), parameters={"attempts": 1})
    assert not given_away(str(error))


@pytest.mark.parametrize("status", [401, 500])
def test_a_vendor_of_batches_that_says_the_key(status):
  async def submit(end):
    async with serving(lambda _: (status, f"Incorrect API key provided: {KEY[:end]}", {})) as (url, _):
      vendor = vendors.AnthropicBatches(url, KEY)
      with pytest.raises(Exception, match=f"HTTP {status}") as raised:
        await vendor.submit("name", [("1", {})])
      await vendor.close()
      assert not given_away(str(raised.value))

  for end in range(0, len(KEY) + 1, 6):
    asyncio.run(submit(end))


def test_a_server_of_ours_that_says_the_token():
  async def refused(context):
    import grpc

    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"who is Bearer {KEY}")

  async def run():
    import grpc
    from jetstream.core.proto import jetstream_pb2_grpc

    class Rude(jetstream_pb2_grpc.OrchestratorServicer):
      async def Decode(self, request, context):  # noqa: N802
        await refused(context)
        yield

    server = grpc.aio.server()
    jetstream_pb2_grpc.add_OrchestratorServicer_to_server(Rude(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = jetstream.JetStreamGenerator([f"127.0.0.1:{port}"], _Bytes(), "m@1", concurrency=1, token=KEY)
    with pytest.raises(Exception, match="refused request") as raised:
      await client.complete(Request(id="1", prompt="2"))
    await client.close()
    await server.stop(None)
    return str(raised.value)

  assert not given_away(asyncio.run(run()))


class _Bytes:
  def encode(self, text, *, bos=False):
    return list(text.encode())

  def decode(self, ids):
    return bytes(ids).decode()


def test_the_log_of_a_server_that_is_sent_its_token_in_a_broken_header(capsys):
  for end in range(0, len(KEY) + 1):
    error = ValueError(f"Invalid header value char: b'Authorization: Bearer {KEY[:end]}")
    record = logging.LogRecord("aiohttp", logging.ERROR, "", 1, f"of {KEY[:end]}", (), (None, error, None))
    OneLine([KEY]).emit(record)
  said = capsys.readouterr()
  assert "Invalid header" in said.err + said.out and not given_away(said.err + said.out)
