"""The page behind a port: local, bounded, silent."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import gradio as gr

from midms.app.page import KEEP_SECONDS, STYLE, AppContext, theme
from midms.app.text_ui import text_tab
from midms.app.ui import translate_tab
from midms.app.uploads import MAX_BYTES
from midms.config import ConfigError
from midms.pipelines.midms import MIDMsPipeline

WAITING = 16  # visitors in the queue before the next is asked to come back


def build(context: AppContext, text_weights: str | None = None, text_clip: str | None = None) -> gr.Blocks:
    """The page with its tabs."""
    with gr.Blocks(title="midms", analytics_enabled=False, delete_cache=(600, KEEP_SECONDS)) as page:
        gr.Markdown("# midms\nExemplar-based image translation by matching interleaved diffusion models")
        with gr.Tabs():
            with gr.Tab("Translate"):
                translate_tab(context)
            if importlib.util.find_spec("transformers") is not None:
                with gr.Tab("Edit by text"):
                    text_tab(context, text_weights, text_clip)
    return page.queue(max_size=WAITING, api_open=False)


def launch(
    pipe: MIDMsPipeline,
    weights: str,
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    text_weights: str | None = None,
    text_clip: str | None = None,
    open_browser: bool = False,
) -> gr.Blocks:
    """Serve the page in a thread of its own; returns it, with its `local_url`.

    Args:
        folder: where uploads and results go; nothing is written elsewhere. `GRADIO_TEMP_DIR` must lie inside it.
        port: 0 takes a free one.
    Raises:
        ConfigError: the port is taken.
    """
    page = build(AppContext(pipe, weights, folder / "results"), text_weights, text_clip)
    try:
        page.launch(
            server_name=host,
            server_port=port or _free_port(host),
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
            theme=theme(),
            css=STYLE,
        )
    except OSError as error:
        raise ConfigError(f"port {port} of {host}: {error}; choose another with --port") from None
    return page


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
