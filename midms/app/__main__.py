"""Start the web app.

    python -m midms.app
    python -m midms.app --weights runs/mine/weights --port 8000
    python -m midms.app --text-weights stable-diffusion-v1-5/stable-diffusion-v1-5

It listens on this machine alone, shares nothing, and works without a network.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from midms.options import add_computing_options
from midms.programs import handle_user_errors, how_to_install, warn


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m midms.app", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="demo", help="folder, shipped name or hub repository (default: demo)")
    parser.add_argument("--text-weights", help="Stable Diffusion of the text tab: a folder or a hub repository")
    parser.add_argument("--text-clip", help="CLIP of the text tab (default: the one that came with the weights)")
    add_computing_options(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    parser.add_argument("--allowed-host", nargs="+", default=[], metavar="NAME", help="more host names that the "
                        "page accepts, such as those of a proxy; '*' accepts every name")  # fmt: skip
    parser.add_argument("--root-path", type=_root_path, default="", metavar="PATH", help="path or address under "
                        "which a proxy shows the page: /midms, https://example.org/midms")  # fmt: skip
    parser.add_argument("--port", type=_port, default=7860, help="0: any free port (default: 7860)")
    parser.add_argument("--folder", type=Path, help="for uploads and results (default: a temporary folder)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {text!r}")
    return int(text)


def _root_path(text: str) -> str:
    if text and not re.fullmatch(r"(https?://[^/\s]+)?(/[\w.~/-]*)?", text):
        raise argparse.ArgumentTypeError(f"expected /PATH or http(s)://HOST/PATH, got {text!r}")
    return text.rstrip("/")


def prepare_environment(folder: Path) -> None:
    """Before the libraries are imported, set `folder` as the place of their files and switch off their telemetry."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "cache")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["MPLCONFIGDIR"] = str(folder / "matplotlib")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def serve(options: argparse.Namespace, folder: Path) -> None:
    """Load the weights and serve until interrupted.

    Raises:
        ConfigError: the weights cannot be used, or the port is in use.
        KeyboardInterrupt: the program was interrupted.
    """
    from midms.app.lean_import import lean_gradio

    with lean_gradio():
        from midms.app.faults import FaultLog
        from midms.app.server import Address, launch
    from midms.app.streaming import stop_all
    from midms.pipelines.making import load_pipeline

    pipe = load_pipeline(options.weights, options.device, options.dtype, options.fast)
    with redirect_stderr(FaultLog(folder / "app.log")):  # type: ignore[type-var]  # a text stream, but not TextIO
        server = launch(
            pipe,
            weights=str(options.weights),
            folder=folder,
            address=Address(options.host, options.port, options.root_path, tuple(options.allowed_host)),
            text_weights=options.text_weights,
            text_clip=options.text_clip,
            open_browser=options.open,
        )
        print(f"midms app: {server.local_url} (Ctrl-C ends it)", flush=True)
        try:
            threading.Event().wait()
        finally:
            server.close(verbose=False)
            stop_all()


@contextmanager
def stop_signals() -> Iterator[None]:
    """End the program on SIGTERM and SIGHUP as on Ctrl-C, so that temporary files are removed."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@handle_user_errors("midms.app")
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 after Ctrl-C or SIGTERM, 2 with one line on a user's mistake."""
    options = parse(arguments)
    if importlib.util.find_spec("gradio") is None:
        warn(f"midms.app: needs Gradio; {how_to_install('app')}")
        return 2
    with stop_signals():
        folder = options.folder or Path(tempfile.mkdtemp(prefix="midms-app-"))
        try:
            prepare_environment(folder.resolve())
            serve(options, folder.resolve())
        except KeyboardInterrupt:
            pass  # the usual way to stop the program
        finally:
            if options.folder is None:
                shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
