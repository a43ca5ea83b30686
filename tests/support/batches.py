"""A vendor of batches in the test's own process, in OpenAI's and in Anthropic's format, with troubles by script."""

import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator

from aiohttp import web


class Vendor:
  """Answers the prompt `N` with `N!`, a batch at its second look; `trouble` (number of a batch → kind) does otherwise.

  Kinds: `expired` answers the first half only, `partly` fails every tenth request, `refuses` says that one is wrong.

  Attributes:
    answered: prompt → how often it was answered, and so paid.
    batches: id → (rows, metadata).
  """

  def __init__(self, trouble=None):
    self.trouble = trouble or {}
    self.answered = Counter()
    self.files = {}
    self.batches = {}
    self.looks = Counter()

  def add(self, rows, metadata):
    name = f"batch_{len(self.batches)}"
    kind = self.trouble.get(len(self.batches))
    self.batches[name] = (rows, metadata)
    done = []
    for place, (id_, body) in enumerate(rows):
      prompt = body["messages"][0]["content"]
      if kind == "expired" and place >= len(rows) // 2:
        done.append((id_, "expired", prompt))
      elif kind == "partly" and place % 10 == 3:
        done.append((id_, "error", prompt))
      elif kind == "refuses" and place == 3:
        done.append((id_, "invalid", prompt))
      else:
        self.answered[prompt] += 1
        done.append((id_, "good", prompt))
    self.files[name] = done
    return name

  def ended(self, name):
    self.looks[name] += 1
    return self.looks[name] > 1

  # OpenAI's format

  async def upload(self, request):
    form = await request.post()
    name = f"file_{len(self.files)}"
    self.files[name] = form["file"].file.read()
    return web.json_response({"id": name})

  async def create(self, request):
    body = await request.json()
    rows = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
    assert {row["url"] for row in rows} == {body["endpoint"]} == {"/v1/chat/completions"}
    return web.json_response({"id": self.add([(r["custom_id"], r["body"]) for r in rows], body["metadata"])})

  async def list_all(self, request):
    data = [{"id": name, "metadata": metadata} for name, (_, metadata) in reversed(self.batches.items())]
    after = request.query.get("after")
    place = next((n + 1 for n, batch in enumerate(data) if batch["id"] == after), 0)
    return web.json_response({"data": data[place : place + 2], "has_more": place + 2 < len(data)})

  async def state(self, request):
    name = request.match_info["id"]
    if not self.ended(name):
      return web.json_response({"id": name, "status": "in_progress"})
    status = "expired" if any(how == "expired" for _, how, _ in self.files[name]) else "completed"
    return web.json_response({"id": name, "status": status, "output_file_id": name, "error_file_id": f"{name}_errors"})

  async def content(self, request):
    name = request.match_info["id"]
    errors = name.endswith("_errors")
    lines = []
    for id_, how, prompt in self.files[name.removesuffix("_errors")]:
      if (how == "good") == errors:
        continue
      usage = {"prompt_tokens": 3, "completion_tokens": 1}
      body = {"choices": [{"message": {"content": f"{prompt}!"}, "finish_reason": "stop"}], "usage": usage}
      code = {"good": 200, "error": 500, "invalid": 400, "expired": 0}[how]
      response = {"status_code": code, "body": body if how == "good" else {"error": {"message": how}}}
      row = {
        "custom_id": id_,
        "response": response if code else None,
        "error": None if code else {"code": "batch_expired"},
      }
      lines.append(json.dumps(row) + "\n")
    return web.Response(text="".join(lines))

  # Anthropic's

  async def create_messages(self, request):
    assert request.headers["anthropic-version"] and request.headers["x-api-key"]
    rows = [(row["custom_id"], row["params"]) for row in (await request.json())["requests"]]
    return web.json_response({"id": self.add(rows, {}), "processing_status": "in_progress"})

  async def list_messages(self, request):
    data = [{"id": name, "request_counts": {"succeeded": len(rows)}} for name, (rows, _) in self.batches.items()]
    return web.json_response({"data": data})

  async def messages_state(self, request):
    name = request.match_info["id"]
    state = {"id": name, "processing_status": "ended" if self.ended(name) else "in_progress"}
    return web.json_response({**state, "results_url": f"{request.url.origin()}/v1/messages/batches/{name}/results"})

  async def results(self, request):
    lines = []
    for id_, how, prompt in self.files[request.match_info["id"]]:
      content = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": f"{prompt}!"}]
      message = {"content": content, "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 1}}
      error = {"error": {"type": "invalid_request_error" if how == "invalid" else "api_error"}}
      result = {
        "good": {"type": "succeeded", "message": message}, "expired": {"type": "expired"},
      }.get(how, {"type": "errored", "error": error})  # fmt: skip
      lines.append(json.dumps({"custom_id": id_, "result": result}) + "\n")
    return web.Response(text="".join(lines))

  @contextlib.asynccontextmanager
  async def serving(self) -> AsyncIterator[str]:
    """Base URL of the running vendor."""
    app = web.Application(client_max_size=1 << 28)
    app.router.add_post("/v1/files", self.upload)
    app.router.add_get("/v1/files/{id}/content", self.content)
    app.router.add_post("/v1/batches", self.create)
    app.router.add_get("/v1/batches", self.list_all)
    app.router.add_get("/v1/batches/{id}", self.state)
    app.router.add_post("/v1/messages/batches", self.create_messages)
    app.router.add_get("/v1/messages/batches", self.list_messages)
    app.router.add_get("/v1/messages/batches/{id}", self.messages_state)
    app.router.add_get("/v1/messages/batches/{id}/results", self.results)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
      yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
      await runner.cleanup()
