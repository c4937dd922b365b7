"""The translation tab: layout, and thin handlers around `actions`, `scenes`, `uploads` and `record`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from midms.app import actions, drawing, marks, record, scenes, uploads
from midms.app.page import (
    CANVAS,
    HIDDEN,
    NETWORKS,
    AppContext,
    consume_upload,
    painted_layers,
    selected_index,
    show_user_errors,
    to_canvas,
)
from midms.config import ConfigError
from midms.diffusion.settings import InterleaveSettings
from midms.models.midms import MIDMs
from midms.visualize import Pixels

SLOTS = 3  # exemplars at once
STEP_SIDE = 160  # pixels of a picture of a step


class ConditionInputs(NamedTuple):
    """Components that say which condition was chosen."""

    kind: Any  # "scene", "painting" or "file": the open tab
    index: Any  # of the picked scene
    maps: Any  # uploaded
    canvas: Any


class ExemplarInputs(NamedTuple):
    """Components that say which exemplars were chosen, an entry per slot."""

    chosen: list[Any]  # ChosenExemplar or None
    editors: list[Any]  # with the paint


def translate_tab(context: AppContext) -> None:
    """Condition, exemplars and result side by side, the steps and the origin of a pixel below."""
    with gr.Row():
        with gr.Column(scale=4, min_width=340):
            condition = condition_panel(context)
        with gr.Column(scale=4, min_width=340):
            exemplars = exemplar_panel(context)
        with gr.Column(scale=4, min_width=340):
            view = result_panel(context)
    gr.Markdown("### The interleaved steps")
    steps = gr.Gallery(show_label=False, columns=7, fit_columns=False, object_fit="contain", format="png",
                       elem_id="steps", buttons=[], allow_preview=False)  # fmt: skip
    gr.Markdown("### Where a pixel came from")
    origin_panel(view)
    connect_translate_button(context, condition, exemplars, view, steps)


def condition_panel(context: AppContext) -> ConditionInputs:
    """Pick a scene, paint, or upload maps."""
    gr.Markdown("### 1 · Condition: what goes where")
    kind = gr.State("scene" if context.task else "file")
    index, maps = gr.State(0), gr.State(None)
    canvas: Any = gr.State(None)
    with gr.Tabs():
        if context.task:
            with gr.Tab("Scenes") as tab:
                small = [scenes.enlarge(context.scene(i).drawing, 96, False) for i in range(scenes.COUNT)]
                gallery = gr.Gallery(small, show_label=False, columns=4, height=CANVAS + 40, allow_preview=False,
                                     format="png", selected_index=0, elem_id="scenes", buttons=[])  # fmt: skip
            tab.select(lambda: "scene", None, kind, queue=False, **HIDDEN)
            gallery.select(selected_index, None, index, queue=False, **HIDDEN)
        if drawing.paintable(context.spec.channels):
            with gr.Tab("Paint or upload a drawing", elem_id="paint-tab") as tab:
                canvas = paint_canvas(context, index)
            tab.select(lambda: "painting", None, kind, queue=False, **HIDDEN)
        with gr.Tab("File") as tab:
            file_upload(context, maps)
        tab.select(lambda: "file", None, kind, queue=False, **HIDDEN)
    return ConditionInputs(kind, index, maps, canvas)


def file_upload(context: AppContext, maps: gr.State) -> None:
    """Upload a condition in whatever form `midms.conditions` reads."""
    channels = context.spec.channels
    forms = [("as its name and the weights suggest", "")]
    if drawing.paintable(channels) and not context.spec.images:
        forms += [("a line drawing", "drawing"), ("a portrait photo", "edges")]
    what = (
        "An image" if context.spec.images else f"Maps ({channels}, H, W) as `.npy` or `.npz`, or what they are made of"
    )
    gr.Markdown(f"{what}: a drawing, a photo, joints as `.json`, a map of classes; what suits the weights.")
    form = gr.Radio(forms, value=forms[0][1], label="It is", visible=len(forms) > 1)
    shown = gr.Image(show_label=False, interactive=False, height=240, format="png", buttons=[], elem_id="file-maps")
    note = gr.Markdown()
    upload = gr.UploadButton("Upload a file", elem_id="upload-condition")

    @show_user_errors
    def receive(file: str | None, kind: str) -> tuple[NDArray[np.uint8], Pixels, str]:
        read = consume_upload(file, lambda path: uploads.read_condition(path, context.spec, kind or None))
        drawn = scenes.enlarge(scenes.picture_of_maps(read.maps), CANVAS, False)
        if read.photo is not None:
            drawn = np.concatenate([scenes.enlarge(read.photo, CANVAS), drawn], axis=1)
        return read.maps, drawn, read.note

    upload.upload(receive, [upload, form], [maps, shown, note], **HIDDEN)


def paint_canvas(context: AppContext, index: gr.State) -> gr.ImageEditor:
    """A canvas with a colour for each part of a face."""
    colours: list[str | tuple[str, float]] = ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in drawing.PALETTE.values()]
    blank = np.full((CANVAS, CANVAS, 3), 255, np.uint8)
    canvas = gr.ImageEditor(
        to_canvas(blank), show_label=False, sources=(), transforms=(), layers=False, canvas_size=(CANVAS, CANVAS),
        fixed_canvas=True, brush=gr.Brush(10, colours, colours[0], "fixed"), eraser=gr.Eraser(12), format="png",
        elem_id="canvas", buttons=[],
    )  # fmt: skip
    swatches = zip(colours, drawing.PALETTE, strict=True)
    gr.HTML("".join(f'<span class="swatch" style="background:{colour}"></span>{name}' for colour, name in swatches))
    with gr.Row():
        start = gr.Button("Paint the picked scene", size="sm", visible=context.task == "faces", elem_id="paint-scene")
        clear = gr.Button("Clear", size="sm")
        upload = gr.UploadButton("Upload a drawing", size="sm", elem_id="upload-drawing")
    start.click(lambda i: to_canvas(scenes.painting_of_scene("faces", context.size, i), False), index, canvas, **HIDDEN)
    clear.click(lambda: to_canvas(blank), None, canvas, **HIDDEN)

    @show_user_errors
    def receive(file: str | None) -> dict[str, Any]:
        picture = scenes.on_square(np.asarray(consume_upload(file, uploads.read_upload)), CANVAS)
        return to_canvas(drawing.ink_on_paper(picture))

    upload.upload(receive, upload, canvas, **HIDDEN)
    return canvas


def exemplar_panel(context: AppContext) -> ExemplarInputs:
    """Up to three exemplars: picked or uploaded, and painted where they may be used."""
    gr.Markdown("### 2 · Exemplars: how it looks")
    slot = gr.State(0)
    first = context.built_in_exemplar(2) if context.task else None
    chosen, editors = [gr.State(first if number == 0 else None) for number in range(SLOTS)], []
    with gr.Tabs():
        for number in range(SLOTS):
            with gr.Tab(f"Exemplar {number + 1}") as tab:
                editors.append(exemplar_slot(context, number, chosen[number], first if number == 0 else None))
            tab.select(lambda number=number: number, None, slot, queue=False, **HIDDEN)
    gr.Markdown("Paint what may be used of it; an unpainted exemplar may be used everywhere.")
    if context.task:
        small = [scenes.enlarge(context.scene(i).exemplar, 96) for i in range(scenes.COUNT)]
        gallery = gr.Gallery(small, show_label=False, columns=4, height=300, allow_preview=False,
                             format="png", elem_id="exemplars", buttons=[])  # fmt: skip

        def take(event: gr.SelectData, open_slot: int) -> list[Any]:
            exemplar = context.built_in_exemplar(int(event.index))
            states = [exemplar if number == open_slot else gr.skip() for number in range(SLOTS)]
            return states + [
                to_canvas(exemplar.pixels) if number == open_slot else gr.skip() for number in range(SLOTS)
            ]

        gallery.select(take, slot, [*chosen, *editors], queue=False, **HIDDEN)
    return ExemplarInputs(chosen, editors)


def exemplar_slot(
    context: AppContext, number: int, chosen: gr.State, first: actions.ChosenExemplar | None
) -> gr.ImageEditor:
    """One exemplar with its paint and its upload."""
    editor = gr.ImageEditor(
        None if first is None else to_canvas(first.pixels), show_label=False, sources=(), transforms=(), layers=False,
        canvas_size=(CANVAS, CANVAS), fixed_canvas=True, format="png", elem_id=f"exemplar-{number + 1}", buttons=[],
        brush=gr.Brush(36, [("#ff2d78", 0.55)], ("#ff2d78", 0.55), "fixed"), eraser=gr.Eraser(36),
        placeholder="Pick one below, or upload a photo",
    )  # fmt: skip
    with gr.Row():
        upload = gr.UploadButton("Upload a photo", size="sm", elem_id=f"upload-exemplar-{number + 1}")
        remove = gr.Button("Remove", size="sm")

    @show_user_errors
    def receive(file: str | None) -> tuple[actions.ChosenExemplar, dict[str, Any]]:
        pixels = consume_upload(file, lambda path: uploads.read_exemplar(path, context.size))
        return actions.ChosenExemplar(pixels), to_canvas(pixels)

    upload.upload(receive, upload, [chosen, editor], **HIDDEN)
    remove.click(lambda: (None, None), None, [chosen, editor], **HIDDEN)
    return editor


class ResultView(NamedTuple):
    """Components that show a result."""

    numbers: list[Any]  # T, N, gamma, seed; T and gamma are states of None for weights without a diffusion
    start: Any
    stop: Any
    picture: Any
    message: Any
    result: Any  # state
    png: Any
    bundle: Any
    command: Any


def setting_sliders(context: AppContext) -> list[Any]:
    """Sliders of what a run can change."""
    own = context.pipe.settings
    if not isinstance(own, InterleaveSettings):
        with gr.Row():
            calls = gr.Slider(1, 8, own.num_interleaved_steps, step=1, min_width=120, label="Pictures generated, N")
        return [gr.State(None), calls, gr.State(None), gr.State(0)]  # nothing is random
    with gr.Row():
        steps = gr.Slider(2, max(100, own.num_inference_steps), own.num_inference_steps, step=1, min_width=120,
                          label="Steps T")  # fmt: skip
        calls = gr.Slider(0, max(50, own.num_interleaved_steps), own.num_interleaved_steps, step=1, min_width=120,
                          label="Noise level N")  # fmt: skip
    with gr.Row():
        threshold = gr.Slider(0, 2, own.threshold, step=0.01, label="Threshold γ",
                              min_width=120)  # fmt: skip
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=actions.MAX_SEED, min_width=120)  # fmt: skip
    return [steps, calls, threshold, seed]


def result_panel(context: AppContext) -> ResultView:
    """The picture, the button and the numbers."""
    gr.Markdown("### 3 · Result")
    picture = gr.Image(show_label=False, interactive=False, height=CANVAS, format="png", elem_id="result", buttons=[])
    message = gr.Markdown(f"Weights: `{context.weights}`, {context.size} pixels.", elem_id="message")
    with gr.Row():
        start = gr.Button("Translate", variant="primary", elem_id="translate", scale=3)
        stop = gr.Button("Stop", elem_id="stop", scale=1, min_width=80)
    numbers = setting_sliders(context)
    with gr.Row():
        png = gr.DownloadButton("PNG with settings", size="sm", interactive=False, elem_id="download-png")
        bundle = gr.DownloadButton("ZIP with inputs", size="sm", interactive=False, elem_id="download-zip")
    command = gr.Textbox(label="The same by command, where the ZIP is unpacked", interactive=False,
                         lines=2, buttons=["copy"], elem_id="command")  # fmt: skip
    return ResultView(numbers, start, stop, picture, message, gr.State(None), png, bundle, command)


def origin_panel(view: ResultView) -> None:
    """A click on the result shows where in the exemplars its pixel came from."""
    sentence = gr.Markdown("Click a pixel of the result.", elem_id="origin-text")
    with gr.Row():
        with gr.Column(scale=1, min_width=200):
            which = gr.Radio([("last match: prediction with exemplar", "last"),
                              ("first match: condition with exemplar", "first")], value="last",
                             show_label=False)  # fmt: skip
        with gr.Column(scale=2):
            marked = gr.Image(show_label=False, interactive=False, height=300, format="png", buttons=[])
        with gr.Column(scale=4):
            origin = gr.Gallery(show_label=False, columns=SLOTS, fit_columns=False, height=300, object_fit="contain",
                                format="png", elem_id="origin", buttons=[], allow_preview=False)  # fmt: skip

    @show_user_errors
    def origin_of(event: gr.SelectData, result: actions.Result | None, match: str) -> tuple[Any, Any, str]:
        if result is None:
            raise ConfigError("there is no result yet: press Translate first")
        scale = result.pixels.shape[0] / CANVAS  # the picture is shown at CANVAS pixels of height
        x, y = (int(place * scale) for place in event.index)
        trace = actions.trace(result, x, y, match)
        shown = marks.marked_result(result, x, y, CANVAS), marks.marked_exemplars(result, trace, CANVAS)
        return *shown, marks.describe_trace(trace, x, y)

    view.picture.select(origin_of, [view.result, which], [marked, origin, sentence], **HIDDEN)


def chosen_condition(
    context: AppContext, kind: str, index: int, maps: NDArray[np.uint8] | None, canvas: dict[str, Any] | None
) -> NDArray[np.uint8]:
    """The condition maps, (L, H, W), of the open tab.

    Raises:
        ConfigError: nothing was chosen there.
    """
    if kind == "scene":
        return context.scene(index).condition
    if kind == "painting":
        painting = (canvas or {}).get("composite")
        if painting is None:
            raise ConfigError("the canvas is empty: paint the parts of a face, or start from a scene")
        return drawing.painted_face(painting[..., :3], context.size)
    if maps is None:
        raise ConfigError("no condition: upload a file first")
    return maps


def chosen_exemplars(
    slots: list[actions.ChosenExemplar | None], editors: list[dict[str, Any] | None]
) -> list[actions.ChosenExemplar]:
    """The exemplars of the filled slots with what their paint allows."""
    chosen = []
    for exemplar, editor in zip(slots, editors, strict=True):
        if exemplar is not None:
            allowed = actions.allowed_part(painted_layers(editor), exemplar.pixels.shape[:2])
            chosen.append(exemplar._replace(allowed=allowed))
    return chosen


def connect_translate_button(
    context: AppContext, condition: ConditionInputs, exemplars: ExemplarInputs, view: ResultView, steps: gr.Gallery
) -> None:
    """Connect the button: read the inputs, show each step as it comes, save the result."""

    @show_user_errors
    def run(kind: str, index: int, maps: Any, canvas: Any, *values: Any) -> Iterator[dict[Any, Any]]:
        slots, editors, numbers = list(values[:SLOTS]), list(values[SLOTS : 2 * SLOTS]), values[2 * SLOTS :]
        total, calls, threshold, seed = numbers
        if seed is None:
            raise ConfigError("seed: expected a number")
        maps = chosen_condition(context, kind, index, maps, canvas)
        chosen = chosen_exemplars(slots, editors)
        task = actions.Task(maps, chosen, as_number(int, total), int(calls), as_number(float, threshold), int(seed))
        off = gr.update(interactive=False)
        yield {view.result: None, view.message: "Matching ...", view.command: "", view.png: off, view.bundle: off}
        for progress in actions.translate(context.pipe, task):
            yield shown(context, view, steps, progress)

    inputs = [*condition, *exemplars.chosen, *exemplars.editors, *view.numbers]
    outputs = [view.picture, view.message, view.result, view.png, view.bundle, view.command, steps]
    event = view.start.click(
        run, inputs, outputs, concurrency_id=NETWORKS, concurrency_limit=1, show_progress="minimal", **HIDDEN
    )
    view.stop.click(lambda: "Stopped.", None, view.message, cancels=[event], queue=False, **HIDDEN)


def as_number(kind: type, value: Any) -> Any:
    """A slider's value as a number of a kind; None, where there is no slider, stays."""
    return None if value is None else kind(value)


def shown(context: AppContext, view: ResultView, steps: gr.Gallery, progress: actions.Progress) -> dict[Any, Any]:
    """Updates of the page for what is known so far; the finished picture is saved."""
    frames = [(scenes.enlarge(frame.pixels, STEP_SIDE), frame.caption) for frame in progress.frames]
    updates = {view.picture: scenes.enlarge(progress.frames[-1].pixels, CANVAS), steps: frames}
    if progress.result is None:
        return updates | {view.message: f"Step {progress.done} of {progress.total} ..."}
    context.prune()
    saved = record.save_result(context.results, progress.result, context.weights)
    network = "U-Net" if context.pipe.kind == MIDMs.kind else "generator"
    return updates | {
        view.message: f"Done: {progress.total} {network} calls. Click the picture to see where a pixel came from.",
        view.result: progress.result,
        view.png: gr.update(value=str(saved.picture), interactive=True),
        view.bundle: gr.update(value=str(saved.bundle), interactive=True),
        view.command: saved.command,
    }
