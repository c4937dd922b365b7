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
import shutil
import sys
import tempfile
from pathlib import Path

from midms.options import add_computing_options
from midms.programs import handle_user_errors


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
    parser.add_argument("--port", type=_port, default=7860, help="0 takes a free one (default: 7860)")
    parser.add_argument("--folder", type=Path, help="for uploads and results (default: a temporary one, removed after)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {text!r}")
    return int(text)


def prepare_environment(folder: Path) -> None:
    """Keep the libraries' files in `folder` and their reports at home; before they are imported."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "cache")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["MPLCONFIGDIR"] = str(folder / "matplotlib")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def serve(options: argparse.Namespace, folder: Path) -> None:
    """Load the weights and serve until interrupted.

    Raises:
        ConfigError: the weights cannot be used, or the port is taken.
    """
    from midms.app.server import launch
    from midms.pipelines.making import load_pipeline

    pipe = load_pipeline(options.weights, options.device, options.dtype, options.fast)
    server = launch(
        pipe,
        weights=str(options.weights),
        folder=folder,
        host=options.host,
        port=options.port,
        text_weights=options.text_weights,
        text_clip=options.text_clip,
        open_browser=options.open,
    )
    print(f"midms app: {server.local_url} (Ctrl-C ends it)", flush=True)
    server.block_thread()


@handle_user_errors("midms.app")
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 after Ctrl-C, 2 with one line on a user's mistake."""
    options = parse(arguments)
    if importlib.util.find_spec("gradio") is None:
        print("midms.app: needs Gradio; run `pip install 'midms[app]'`", file=sys.stderr)
        return 2
    folder = options.folder or Path(tempfile.mkdtemp(prefix="midms-app-"))
    prepare_environment(folder.resolve())
    try:
        serve(options, folder.resolve())
    except KeyboardInterrupt:
        pass  # the way to end it
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
