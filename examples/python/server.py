"""A chat server in one file: an ASGI application that streams answers as server-sent events.

    pip install uvicorn
    ARGOSY_MODEL=smollm2-135m uvicorn --app-dir examples/python server:application
    curl -N localhost:8000 --data '{"messages": [{"role": "user", "content": "Name a river."}], "max_tokens": 40}'

Any ASGI server runs it, and FastAPI or Starlette can mount it. Requests are answered together, up to `max_batch` at a
time; a client that goes away ends its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from argosy import ArgosyError, ChatModule, LoadedModel

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
MAX_BODY = 1 << 20
_loading: asyncio.Future[LoadedModel] | None = None


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer `POST /` with the settings and `messages` of its JSON body."""
    if scope["type"] != "http":
        return
    try:
        settings = json.loads(await read_body(receive))
        messages = settings.pop("messages")
    except (ValueError, KeyError, AttributeError):
        await reply(send, 400, {"error": "the body must be a JSON object with `messages`"})
        return
    with ChatModule(await loaded_model()) as chat:
        try:
            stream = chat.stream(messages, **settings)
        except ArgosyError as error:
            await reply(send, 400, {"error": error.message, "hint": error.hint})
            return
        answering = asyncio.create_task(send_pieces(stream, send))
        leaving = asyncio.create_task(until_gone(receive))
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (answering, leaving):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def loaded_model() -> LoadedModel:
    """Load the model once, without blocking the event loop."""
    global _loading
    if _loading is None:
        name = os.environ.get("ARGOSY_MODEL", "smollm2-135m")
        _loading = asyncio.ensure_future(asyncio.to_thread(LoadedModel.load, name, max_batch=4))
    return await asyncio.shield(_loading)


async def send_pieces(stream: Any, send: Send) -> None:
    """Send the answer as events, the last of which says why it ended."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    try:
        async for piece in stream:
            await send(event({"text": piece}))
        last = {"finish_reason": stream.reply.finish_reason}
    except ArgosyError as error:
        last = {"error": error.message}
    await send(event(last) | {"more_body": False})


def event(value: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the response."""
    return {"type": "http.response.body", "body": f"data: {json.dumps(value)}\n\n".encode(), "more_body": True}


async def reply(send: Send, status: int, value: dict[str, Any]) -> None:
    """Send a whole response in JSON."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})


async def read_body(receive: Receive) -> bytes:
    """Return the body of a request. Raises ValueError if it is too long or cut off."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or len(body) > MAX_BODY:
            raise ValueError
        if not message.get("more_body", False):
            return body


async def until_gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
