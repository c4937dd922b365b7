"""The server of the page: local, with limits, without telemetry, and closed to other sites."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gradio as gr
from starlette.middleware import Middleware

from midms.app.departed import DepartedVisitors
from midms.app.guard import Guard, HostRules, is_loopback
from midms.app.page import KEEP_SECONDS, AppContext
from midms.app.style import head, theme
from midms.app.text_ui import text_tab
from midms.app.ui import translate_tab
from midms.app.uploads import MAX_BYTES
from midms.config import ConfigError
from midms.pipelines.midms import MIDMsPipeline

_TITLE = """# midms
Exemplar-based image translation by matching interleaved diffusion models. Your photo can be the exemplar, which gives
the look, or the condition, which gives the content; samples stand in for the other."""
AT_ONCE = 8  # concurrent short events, such as picking a sample; translations have their own limit
WAITING = 16  # longest queue of visitors; others are asked to come back


class Address(NamedTuple):
    """Address and names of the page."""

    host: str = "127.0.0.1"
    port: int = 0  # 0 takes a free one
    root_path: str = ""  # path, or whole address, under which a proxy shows the page
    allowed_hosts: Sequence[str] = ()  # further accepted host names


LOCAL = Address()


def build(context: AppContext, text_weights: str | None = None, text_clip: str | None = None) -> gr.Blocks:
    """The page with its tabs."""
    with gr.Blocks(title="midms", analytics_enabled=False, delete_cache=(600, KEEP_SECONDS)) as page:
        gr.Markdown(_TITLE)
        with gr.Tabs():
            with gr.Tab("Translate"):
                translate_tab(context, page)
            with gr.Tab("Edit by text"):
                text_tab(context, text_weights, text_clip)
    return page.queue(max_size=WAITING, api_open=False, default_concurrency_limit=AT_ONCE)


def launch(
    pipe: MIDMsPipeline,
    weights: str,
    folder: Path,
    address: Address = LOCAL,
    text_weights: str | None = None,
    text_clip: str | None = None,
    open_browser: bool = False,
) -> gr.Blocks:
    """Serve the page in a thread of its own; returns it, with its `local_url`.

    Args:
        folder: the only folder that is written to, for uploads and results. `GRADIO_TEMP_DIR` must lie inside it.
    Raises:
        ConfigError: the port is in use.
    """
    context = AppContext(pipe, weights, folder / "results", is_loopback(address.host))
    page = build(context, text_weights, text_clip)
    try:
        page.launch(
            server_name=address.host,
            server_port=address.port or _free_port(address.host),
            root_path=address.root_path or None,
            share=False,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            allowed_paths=[str(folder / "results")],
            max_file_size=MAX_BYTES,
            footer_links=[],
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,
            app_kwargs={"middleware": [guard(address), Middleware(DepartedVisitors)]},
            theme=theme(),
            head=head(),
        )
    except OSError as error:
        raise ConfigError(f"port {address.port} of {address.host}: {error}; choose another with --port") from None
    Thread(target=context.draw_samples, daemon=True).start()  # ready when the browser asks for them
    return page


def guard(address: Address) -> Any:
    """The middleware that refuses foreign hosts and paths that the page does not need."""
    outside = urlsplit(address.root_path)  # a path alone has no host
    names = [*address.allowed_hosts, *([outside.hostname] if outside.hostname else [])]
    return Middleware(Guard, HostRules(address.host, names), outside.path)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
