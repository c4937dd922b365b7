"""Visitors that leave while the page's event streams are open, or before their picture has arrived."""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect

from midms.app.guard import Receive, Scope, Send


class DepartedVisitors:
    """ASGI middleware: no fault is reported for the upload or the second event stream of a visitor who has left.

    Starlette raises ClientDisconnect where the rest of an upload does not come; there is nobody to be answered.
    Gradio forgets a visitor's messages when the first stream ends, and raises KeyError where another stream of the same
    visitor ends afterwards (6.31, `sse_stream`). Nobody waits for that stream, and the first one has cleaned up.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = False

        async def notice() -> Any:
            nonlocal left
            message = await receive()
            left = left or message["type"] == "http.disconnect"
            return message

        try:
            await self.app(scope, notice, send)
        except ClientDisconnect:
            pass
        except KeyError:
            if not (left and scope["path"].endswith("/gradio_api/queue/data")):
                raise
