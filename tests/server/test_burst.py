"""Thousands of calls that arrive while the server's event loop is busy: gRPC's own limits must not cancel them."""

import asyncio
import collections
import time

import grpc
from jetstream.core.proto import jetstream_pb2, jetstream_pb2_grpc

from skymath_jax.server.serve import Server, start_engine
from skymath_jax.server.settings import ServerSettings
from skymath_jax.testing.null_engine import NullEngine, NullSlots, answer
from skymath_jax.testing.tokenizers import CodePointTokenizer

CALLS, CONNECTIONS = 3200, 8  # more than gRPC's hard limit of 3,000 calls that wait to be taken up


async def outcomes(server: Server) -> collections.Counter:
  options = [("grpc.use_local_subchannel_pool", 1)]
  channels = [grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) for _ in range(CONNECTIONS)]
  stubs = [jetstream_pb2_grpc.OrchestratorStub(channel) for channel in channels]
  seen = collections.Counter()

  async def one(number: int) -> None:
    tokens, got = [1 + number % 1000], []
    message = jetstream_pb2.DecodeRequest(max_tokens=9, token_content={"token_ids": tokens})
    try:
      async for part in stubs[number % CONNECTIONS].Decode(message, timeout=300):
        got += part.stream_content.samples[0].token_ids
      seen["whole" if got == answer(tokens, 9) else "broken"] += 1
    except grpc.aio.AioRpcError as error:
      seen[error.code().name] += 1

  await asyncio.gather(*(channel.channel_ready() for channel in channels))
  server.event_loop.call_soon_threadsafe(time.sleep, 4.0)
  await asyncio.gather(*(one(number) for number in range(CALLS)))
  await asyncio.gather(*(channel.close() for channel in channels))
  return seen


def test_a_burst_is_answered_whole():
  settings = ServerSettings(port=0, queue_size=2 * CALLS)
  server = start_engine(NullEngine(), NullSlots(64), CodePointTokenizer(), "null@0", settings)
  try:
    assert asyncio.run(outcomes(server)) == {"whole": CALLS}
  finally:
    server.stop()
