"""The page of `skymath watch` on this machine's own address: GET only, and only for those who ask for that address."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from etils import epath

from skymath_jax.errors import UserError
from skymath_jax.report import watch

ADDRESS = "127.0.0.1"
NAMES = {ADDRESS, "localhost"}
HEADERS = {
  "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cache-Control": "no-store",
}


@web.middleware
async def _guarded(
  request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
  """Refuses other hosts' names: a page of the web could send its visitors' browsers here under its own."""
  if request.host.rpartition(":")[0] not in NAMES:
    raise web.HTTPForbidden(text="This page is for this machine only.\n")
  response = await handler(request)
  response.headers.update(HEADERS)
  return response


def app(workdir: epath.PathLike) -> web.Application:
  """The server's application: `/` is the page as of now."""

  async def index(_: web.Request) -> web.Response:
    try:
      text = await asyncio.to_thread(watch.page, workdir)
    except UserError as error:
      return web.Response(text=f"{error}\n", status=503)
    return web.Response(text=text, content_type="text/html")

  made = web.Application(middlewares=[_guarded], client_max_size=1024)
  made.router.add_get("/", index)
  return made


def serve(workdir: epath.PathLike, port: int, ready: Callable[[str], None]) -> None:
  """Serves until it is interrupted; `ready` gets the page's address. Port 0 takes a free one.

  Raises:
    UserError: this is no workdir, or the port is taken.
  """
  watch.page(workdir)

  async def run() -> None:
    runner = web.AppRunner(app(workdir), access_log=None)
    await runner.setup()
    try:
      try:
        await web.TCPSite(runner, ADDRESS, port).start()
      except OSError as error:
        raise UserError(f"port {port} cannot be used ({error.strerror})", remedy="choose another --port") from None
      ready(f"http://{ADDRESS}:{runner.addresses[0][1]}/")
      await asyncio.Event().wait()
    finally:
      await runner.cleanup()

  asyncio.run(run())
