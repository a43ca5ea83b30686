"""Opens reports in a real headless browser, as a desk and as a phone show them, and checks what a reader would miss.

    skymath bench report_browser runs/quickstart/report.html runs/study_micro/study/report.html --shots=SHOTS

One row for each page and width: console errors, requests that leave the file, images that did not load, width that
overflows the screen, smallest text. Exit code 1 if anything is wrong. Needs Chromium (Debian: apt-get install
chromium); the browser has no network to use: every host name is mapped to nowhere.
"""

import argparse
import asyncio
import base64
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

from skymath_jax.errors import UserError

SCREENS = {"desk": (1280, 900, False), "phone": (390, 844, True)}
SMALLEST = 8.0  # CSS pixels of text as drawn; smaller cannot be read on a phone
FLAGS = (
  "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-quic", "--hide-scrollbars", "--remote-debugging-port=0",
  "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
FINDINGS = """(() => {
  const images = [...document.images];
  const texts = [...document.querySelectorAll('p,td,th,li,summary,small,h1,h2,h3,svg text')];
  const scale = svg => svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
  const size = e => parseFloat(getComputedStyle(e).fontSize) * scale(e.ownerSVGElement);
  return {
    images: images.length,
    images_missing: images.filter(i => !i.complete || !i.naturalWidth).length,
    overflow: document.documentElement.scrollWidth - window.innerWidth,
    smallest_text: Math.min(...texts.filter(e => e.getClientRects().length).map(size)),
    height: document.documentElement.scrollHeight,
  };
})()"""


def browser() -> str:
  """The path of a Chromium.

  Raises:
    UserError: there is none.
  """
  for name in ("chromium", "chromium-browser", "google-chrome"):
    if path := shutil.which(name):
      return path
  raise UserError("this check needs a browser", remedy="apt-get install chromium")


class Page:
  """One tab over the DevTools protocol: commands by number, events kept."""

  def __init__(self, socket):
    self._socket, self._last, self.events = socket, 0, []

  async def send(self, method, **parameters):
    """Sends one command and returns its result; events that come in between are kept."""
    self._last += 1
    await self._socket.send_json({"id": self._last, "method": method, "params": parameters})
    while True:
      message = await asyncio.wait_for(self._socket.receive_json(), 60)
      if message.get("id") == self._last:
        return message["result"]
      self.events.append(message)

  async def wait(self, method):
    """Returns when an event of this name has come."""
    while not any(event["method"] == method for event in self.events):
      self.events.append(await asyncio.wait_for(self._socket.receive_json(), 60))


async def look(page: Page, report: Path, screen: str, shots: Path | None) -> dict:
  """What one page shows on one screen."""
  width, height, mobile = SCREENS[screen]
  page.events.clear()
  for domain in ("Page", "Log", "Runtime", "Network"):
    await page.send(f"{domain}.enable")
  await page.send(
    "Emulation.setDeviceMetricsOverride",
    width=width,
    height=height,
    deviceScaleFactor=2 if mobile else 1,
    mobile=mobile,
  )
  await page.send("Page.navigate", url=report.resolve().as_uri())
  await page.wait("Page.loadEventFired")
  await page.send("Runtime.evaluate", expression="document.querySelectorAll('details').forEach(d => d.open = true)")
  found = (await page.send("Runtime.evaluate", expression=FINDINGS, returnByValue=True))["result"]["value"]
  if shots is not None:
    await page.send("Runtime.evaluate", expression="document.querySelectorAll('details').forEach(d => d.open = false)")
    shot = await page.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
    shots.mkdir(parents=True, exist_ok=True)
    (shots / f"{report.parent.parent.name}-{report.parent.name}-{screen}.png").write_bytes(
      base64.b64decode(shot["data"])
    )
  entries = [e["params"]["entry"] for e in page.events if e["method"] == "Log.entryAdded"]
  errors = [entry["text"] for entry in entries if entry["level"] in ("error", "warning")]
  errors += [str(e["params"]) for e in page.events if e["method"] == "Runtime.exceptionThrown"]
  urls = [e["params"]["request"]["url"] for e in page.events if e["method"] == "Network.requestWillBeSent"]
  outside = [url[:80] for url in urls if not url.startswith(("data:", report.resolve().as_uri()))]
  wrong = errors or outside or found["images_missing"] or found["overflow"] > 0 or found["smallest_text"] < SMALLEST
  return {"report": str(report), "screen": screen, "ok": not wrong, "errors": errors, "requests": outside, **found}


async def look_at(reports: list[Path], shots: Path | None) -> list[dict[str, Any]]:
  """What is found on each page and screen."""
  with tempfile.TemporaryDirectory() as profile:
    process = await asyncio.create_subprocess_exec(
      browser(), *FLAGS, f"--user-data-dir={profile}", "about:blank", stderr=asyncio.subprocess.PIPE
    )
    try:
      port = await asyncio.wait_for(_port(Path(profile)), 60)
      async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
          tab = next(tab for tab in await response.json() if tab["type"] == "page")
        async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
          return [await look(Page(socket), report, screen, shots) for report in reports for screen in SCREENS]
    finally:
      process.terminate()
      with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(process.wait(), 20)


async def _port(profile: Path) -> int:
  path = profile / "DevToolsActivePort"
  while not path.exists() or not path.read_text().strip():
    await asyncio.sleep(0.1)
  return int(path.read_text().split()[0])


def run(words: list[str]) -> Iterator[dict[str, Any]]:
  """One row a page and screen: 1 where nothing is wrong."""
  parser = argparse.ArgumentParser("skymath bench report_browser")
  parser.add_argument("reports", nargs="+", type=Path)
  parser.add_argument("--shots", type=Path, help="folder for a screenshot of each")
  chosen = parser.parse_args(words)
  lines = asyncio.run(look_at(chosen.reports, chosen.shots))
  for line in lines:
    yield {"name": "report_browser", "value": int(line["ok"]), "unit": "fine", "settings": line}
  if not all(line["ok"] for line in lines):
    raise SystemExit(1)
