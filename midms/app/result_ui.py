"""The panel of the result: picture, comparisons, numbers, downloads, and the origin of a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image

from midms.app import actions, framing, marks
from midms.app.canvases import CANVAS, picture_file
from midms.app.exemplar_ui import SLOTS
from midms.app.finished import Finished
from midms.app.page import HIDDEN, AppContext, show_user_errors
from midms.app.style import MARK_OLD
from midms.config import ConfigError
from midms.diffusion.settings import InterleaveSettings
from midms.pipelines.notes import what_weights_know

STEP_SIDE = 160  # pixels of a picture of a step
FIRST_WARP = "first warp"
_CLICK = "Click a place of the result: here you see where in the exemplar it came from."


class ResultView(NamedTuple):
    """Components that show a result."""

    numbers: list[Any]  # amount of change, T, gamma, seed; for weights without a diffusion N, None, None, 0
    start: Any
    stop: Any
    picture: Any
    message: Any
    notes: Any  # why the picture cannot be good
    finished: Any  # state: `Finished` or None
    token: Any  # kept by the browser: the name of the last picture
    png: Any
    animation: Any
    bundle: Any
    command: Any
    beside: Any  # picture to compare the result with
    slider: Any


class OriginView(NamedTuple):
    """Components that show the origin of a pixel."""

    sentence: Any
    marked: Any
    exemplars: Any


def result_panel(context: AppContext) -> ResultView:
    """The picture, the button and the numbers."""
    gr.Markdown("### 3 · Result")
    with gr.Tabs():
        with gr.Tab("Picture"):
            picture = gr.Image(show_label=False, interactive=False, height=CANVAS, format="png", elem_id="result",
                               buttons=[], placeholder="Press Translate")  # fmt: skip
        with gr.Tab("Compare", elem_id="compare-tab"):
            beside, slider = compare_panel()
    message = gr.Markdown(f"Weights: `{context.weights}`. {what_weights_know(context.pipe)}", elem_id="message")
    notes = gr.Markdown(elem_id="notes", elem_classes=["says"])
    with gr.Row():
        start = gr.Button("Translate", variant="primary", elem_id="translate", scale=3)
        stop = gr.Button("Stop", elem_id="stop", scale=1, min_width=80)
    with gr.Row():
        png = _download("Save PNG", "download-png")
        animation = _download("Save GIF", "download-gif")
        bundle = _download("Save ZIP", "download-zip")
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        numbers = setting_sliders(context)
        command = gr.Textbox(label="The same by command", interactive=False,
                             lines=2, buttons=["copy"], elem_id="command")  # fmt: skip
    finished, token = gr.State(None), gr.BrowserState(None, storage_key="midms-last-picture")
    view = ResultView(
        numbers, start, stop, picture, message, notes, finished, token, png, animation, bundle, command, beside, slider
    )
    beside.input(compared, [finished, beside], slider, **HIDDEN)
    for number in (number for number in numbers if not isinstance(number, gr.State)):
        number.input(None, js=MARK_OLD, **HIDDEN)
    return view


def compare_panel() -> tuple[Any, Any]:
    """The result beside another picture, with a movable dividing line."""
    slider = gr.ImageSlider(show_label=False, interactive=False, format="png", height=CANVAS, max_height=CANVAS,
                            elem_id="compare-picture", buttons=[])  # fmt: skip
    beside = gr.Radio([FIRST_WARP], value=FIRST_WARP, label="Left of the line", elem_id="compare-with",
                      info="right of it: the result")  # fmt: skip
    return beside, slider


def setting_sliders(context: AppContext) -> list[Any]:
    """Sliders for the settings of a run; `midms.app.style.HINTS` explains them."""
    own = context.pipe.settings
    if not isinstance(own, InterleaveSettings):
        calls = gr.Slider(1, 8, own.num_interleaved_steps, step=1, label="Pictures generated, N")
        return [calls, gr.State(None), gr.State(None), gr.State(0)]  # nothing is random
    share = own.num_interleaved_steps / own.num_inference_steps
    amount = gr.Slider(0, 0.98, share, step=0.01, label="Amount of change", elem_id="amount")
    steps = gr.Slider(2, max(100, own.num_inference_steps), own.num_inference_steps, step=1, label="Steps",
                      elem_id="steps-t")  # fmt: skip
    threshold = gr.Slider(0, 2, own.threshold, step=0.01, label="Tolerance of copying", elem_id="tolerance")
    seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=actions.MAX_SEED, elem_id="seed")
    return [amount, steps, threshold, seed]


def calls_of(amount: float, steps: int) -> int:
    """N, the number of computed steps, from an amount of change and T."""
    return max(0, min(round(amount * steps), steps - 1))


def compared(finished: Finished | None, name: str) -> tuple[str, str] | None:
    """Files of the picture called `name` and of the result, both of the result's size."""
    if finished is None:
        return None
    result = finished.result
    other = finished.frames[0].pixels
    if name != FIRST_WARP:
        other = result.task.exemplars[int(name.rsplit(" ", 1)[1]) - 1].pixels
    height, width = result.pixels.shape[:2]
    fitted = np.asarray(Image.fromarray(other).resize((width, height), Image.Resampling.BICUBIC))
    return picture_file(framing.enlarge(fitted, CANVAS)), picture_file(framing.enlarge(result.pixels, CANVAS))


def shown_progress(view: ResultView, steps: Any, progress: actions.Progress) -> dict[Any, Any]:
    """Updates of the page during a translation."""
    return {
        view.picture: picture_file(framing.enlarge(progress.frames[-1].pixels, CANVAS)),
        steps: gr.update(value=step_pictures(progress.frames), visible=True),
        view.message: f"Step {progress.done} of {progress.total} ...",
        view.notes: note_lines(progress.notes),
    }


def shown_finished(view: ResultView, steps: Any, finished: Finished, message: str) -> dict[Any, Any]:
    """Updates of the page for a finished picture."""
    saved, result = finished.saved, finished.result
    names = [FIRST_WARP, *(f"exemplar {number}" for number in range(1, len(result.task.exemplars) + 1))]
    return {
        view.picture: picture_file(framing.enlarge(result.pixels, CANVAS)),
        steps: gr.update(value=step_pictures(finished.frames), visible=True),
        view.message: message,
        view.notes: note_lines(result.notes),
        view.finished: finished,
        view.png: gr.update(value=str(saved.picture), interactive=True),
        view.animation: gr.update(value=str(saved.animation), interactive=True),
        view.bundle: gr.update(value=str(saved.bundle), interactive=True),
        view.command: saved.command,
        view.beside: gr.update(choices=names, value=FIRST_WARP),
        view.slider: compared(finished, FIRST_WARP),
    }


def note_lines(notes: Sequence[str]) -> str:
    """Notes as Markdown, one paragraph each."""
    return "\n\n".join(f"**Note:** {note}." for note in notes)


def nothing_finished(view: ResultView, origin: OriginView) -> dict[Any, Any]:
    """Updates that remove an earlier result from the page."""
    off = gr.update(interactive=False)
    hidden = gr.update(value=None, visible=False)
    return {
        view.finished: None, view.message: "Matching ...", view.notes: "", view.command: "", view.png: off,
        view.animation: off, view.bundle: off, view.slider: None, origin.marked: hidden,
        origin.exemplars: hidden, origin.sentence: _CLICK,
    }  # fmt: skip


def step_pictures(frames: list[actions.Frame]) -> list[tuple[str, str]]:
    """Files and captions of the steps."""
    return [(picture_file(framing.enlarge(frame.pixels, STEP_SIDE)), frame.caption) for frame in frames]


def origin_panel(view: ResultView) -> OriginView:
    """Show, after a click on the result, the origin of the pixel in the exemplars."""
    which = gr.Radio([("at the last match", "last"), ("at the first match", "first")], value="last", show_label=False,
                     elem_id="which-match")  # fmt: skip
    sentence = gr.Markdown(_CLICK, elem_id="origin-text")
    with gr.Row(elem_id="origin-row"):
        marked = gr.Image(show_label=False, interactive=False, height=300, format="png", buttons=[], visible=False,
                          scale=1, min_width=200, elem_id="marked")  # fmt: skip
        exemplars = gr.Gallery(show_label=False, columns=SLOTS, fit_columns=False, height=300, object_fit="contain",
                               format="png", elem_id="origin", buttons=[], allow_preview=False, visible=False,
                               scale=2, min_width=200)  # fmt: skip

    @show_user_errors(sentence)
    def origin_of(event: gr.SelectData, finished: Finished | None, match: str) -> dict[Any, Any]:
        if finished is None:
            raise ConfigError("there is no result yet: press Translate first")
        result = finished.result
        scale = result.pixels.shape[0] / CANVAS  # the picture is shown at CANVAS pixels of height
        x, y = (int(place * scale) for place in event.index)
        trace = actions.trace(result, x, y, match)
        lit = [(picture_file(pixels), text) for pixels, text in marks.marked_exemplars(result, trace, CANVAS)]
        return {
            marked: gr.update(value=picture_file(marks.marked_result(result, x, y, CANVAS)), visible=True),
            exemplars: gr.update(value=lit, visible=True),
            sentence: marks.describe_trace(trace, x, y, len(result.task.exemplars)),
        }

    view.picture.select(origin_of, [view.finished, which], [marked, exemplars, sentence], **HIDDEN)
    return OriginView(sentence, marked, exemplars)


def _download(label: str, name: str) -> gr.DownloadButton:
    return gr.DownloadButton(label, size="sm", interactive=False, elem_id=name, min_width=90)
