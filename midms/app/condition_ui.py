"""The panel of the condition: pick a sample, paint, or upload a file."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from midms.app import drawing, framing, uploads
from midms.app.canvases import CANVAS, flattened, picture_file, to_canvas
from midms.app.finished import ChosenCondition
from midms.app.page import HIDDEN, MISTAKE, AppContext, consume_upload, selected_index, show_user_errors
from midms.app.style import MARK_OLD, mark_old_unless
from midms.config import ConfigError
from midms.data.samples import COUNT, picture_of_maps
from midms.visualize import Pixels

KINDS = {"sample": "Samples", "painting": "Drawing", "file": "Your photo"}  # the tabs


class ConditionInputs(NamedTuple):
    """Components that hold the chosen condition."""

    kind: Any  # one of `KINDS`: the open tab
    index: Any  # of the picked sample
    read: Any  # of the uploaded file: `ReadCondition`
    canvas: Any
    tabs: Any
    gallery: Any  # None: there are no samples for these weights
    shown: Any  # picture of the uploaded maps
    note: Any  # note on the uploaded file


def condition_panel(context: AppContext) -> ConditionInputs:
    """Pick a sample, paint, or upload maps."""
    gr.Markdown("### 1 · Condition: what goes where")
    kind = gr.State("sample" if context.task else "file")
    index, read = gr.State(0), gr.State(None)
    canvas: Any = gr.State(None)
    gallery = None
    with gr.Tabs(elem_id="condition-tabs") as tabs:
        if context.task:
            with gr.Tab(KINDS["sample"], id="sample") as tab:
                gallery = sample_gallery()
            tab.select(lambda: "sample", None, kind, **HIDDEN)
            gallery.select(selected_index, None, index, **HIDDEN)
            gallery.select(None, js=MARK_OLD, **HIDDEN)
        if drawing.paintable(context.spec.channels):
            with gr.Tab(KINDS["painting"], id="painting", elem_id="paint-tab") as tab:
                canvas = paint_canvas(context, index)
            tab.select(lambda: "painting", None, kind, **HIDDEN)
        with gr.Tab(KINDS["file"], id="file", elem_id="file-tab") as tab:
            shown, note = file_upload(context, read)
        tab.select(lambda: "file", None, kind, **HIDDEN)
    return ConditionInputs(kind, index, read, canvas, tabs, gallery, shown, note)


def sample_gallery() -> gr.Gallery:
    """The built-in conditions; `small_conditions` fills the gallery when the page is opened."""
    return gr.Gallery(show_label=False, columns=4, height=CANVAS + 40, allow_preview=False, format="png",
                      selected_index=0, elem_id="samples", buttons=[])  # fmt: skip


def small_conditions(context: AppContext) -> list[str]:
    """Files of the built-in conditions as small pictures."""
    shown = (picture_of_maps(context.sample(index).condition) for index in range(COUNT))
    return [picture_file(framing.enlarge(picture, 96, False)) for picture in shown]


def file_upload(context: AppContext, read_state: gr.State) -> tuple[Any, Any]:
    """Upload a condition in any form that `midms.conditions` reads. Returns its picture and the line below."""
    channels = context.spec.channels
    forms = [("as its name and the weights suggest", "")]
    if drawing.paintable(channels) and not context.spec.images:
        forms += [("a line drawing", "drawing"), ("a portrait photo", "edges")]
    what = (
        "An image" if context.spec.images else f"A drawing, a photo, joints as `.json`, a map of classes, or maps "
        f"({channels}, H, W) as `.npy` or `.npz`; what suits the weights"
    )  # fmt: skip
    gr.Markdown(f"{what}.")
    form = gr.Radio(forms, value=forms[0][1], label="It is", visible=len(forms) > 1)
    upload = gr.UploadButton("Upload a file", elem_id="upload-condition")
    note = gr.Markdown(elem_id="file-note", elem_classes=["says"])
    shown = gr.Image(show_label=False, interactive=False, height=240, format="png", buttons=[], elem_id="file-maps",
                     visible=False)  # fmt: skip

    @show_user_errors(note)
    def receive(file: str | None, kind: str) -> dict[Any, Any]:
        read = consume_upload(file, lambda path: uploads.read_condition(path, context.spec, kind or None))
        return {
            read_state: read,
            shown: gr.update(value=picture_file(picture_of_condition(read)), visible=True),
            note: describe_condition(read),
        }

    event = upload.upload(receive, [upload, form], [read_state, shown, note], **HIDDEN)
    event.then(None, note, js=mark_old_unless(MISTAKE), **HIDDEN)
    return shown, note


def picture_of_condition(read: uploads.ReadCondition) -> Pixels:
    """An uploaded condition; if made of a photo, the photo as it was used on its left."""
    picture = framing.enlarge(picture_of_maps(read.maps), CANVAS, False)
    if read.photo is None:
        return picture
    return np.concatenate([framing.enlarge(read.photo, CANVAS), picture], axis=1)


def describe_condition(read: uploads.ReadCondition) -> str:
    """The line below an uploaded condition."""
    what = "maps" if read.photo is None else "maps made of your photo,"
    taken = f"Taken: {len(read.maps)} {what} of {read.maps.shape[2]} x {read.maps.shape[1]} pixels."
    return f"{taken} Note: {read.note}." if read.note else taken


def paint_canvas(context: AppContext, index: gr.State) -> gr.ImageEditor:
    """A canvas with a colour for each part of a face."""
    colours: list[str | tuple[str, float]] = ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in drawing.PALETTE.values()]
    blank = np.full((CANVAS, CANVAS, 3), 255, np.uint8)
    canvas = gr.ImageEditor(
        to_canvas(blank), show_label=False, sources=(), transforms=(), layers=False, canvas_size=(CANVAS, CANVAS),
        fixed_canvas=True, brush=gr.Brush(10, colours, colours[0], "fixed"), eraser=gr.Eraser(12), format="png",
        elem_id="canvas", buttons=[],
    )  # fmt: skip
    swatches = zip(colours, drawing.PALETTE_WORDS.values(), strict=True)
    spans = (f'<span><i class="swatch" style="background:{colour}"></i>{name}</span>' for colour, name in swatches)
    gr.HTML(f'<div class="swatches">{"".join(spans)}</div>')
    with gr.Row():
        start = gr.Button("Paint the picked sample", size="sm", visible=context.task == "faces", elem_id="paint-sample",
                          min_width=90)  # fmt: skip
        clear = gr.Button("Clear", size="sm", min_width=60)
        upload = gr.UploadButton("Upload a drawing", size="sm", elem_id="upload-drawing", min_width=90)
    note = gr.Markdown(elem_id="canvas-note", elem_classes=["says"])

    def paint_sample(number: int) -> tuple[Any, str]:
        painting = to_canvas(drawing.painting_of_sample(context.size, number + 1), False)
        return painting, "The picked sample is on the canvas: paint over it, or translate it as it is."

    start.click(paint_sample, index, [canvas, note], **HIDDEN)
    clear.click(lambda: (to_canvas(blank), "The canvas is empty."), None, [canvas, note], **HIDDEN)

    @show_user_errors(note)
    def receive(file: str | None) -> tuple[dict[str, Any], str]:
        picture = np.asarray(consume_upload(file, uploads.read_upload))
        framed, told = drawing.drawing_on_square(picture, CANVAS)
        taken = f"Taken: a drawing of {picture.shape[1]} x {picture.shape[0]} pixels."
        return to_canvas(framed), f"{taken} Note: {told}." if told else taken

    event = upload.upload(receive, upload, [canvas, note], **HIDDEN)
    event.then(None, note, js=mark_old_unless(MISTAKE), **HIDDEN)
    for click in (start.click, clear.click, canvas.input):
        click(None, js=MARK_OLD, **HIDDEN)
    return canvas


def chosen_condition(
    context: AppContext, kind: str, index: int, read: uploads.ReadCondition | None, canvas: dict[str, Any] | None
) -> tuple[NDArray[np.uint8], ChosenCondition]:
    """The condition maps, (L, H, W), of the open tab, and the choice there.

    Raises:
        ConfigError: nothing was chosen.
    """
    if kind == "sample":
        return context.sample(index).condition, ChosenCondition(kind, index, None, None)
    if kind == "painting":
        painting = flattened(canvas)
        if painting is None:
            raise ConfigError("the canvas is empty: paint the parts of a face, or start from a sample")
        return drawing.painted_face(painting, context.size), ChosenCondition(kind, index, None, painting)
    if read is None:
        raise ConfigError("no condition: upload a file first")
    return read.maps, ChosenCondition(kind, index, read, None)


def shown_condition(inputs: ConditionInputs, chosen: ChosenCondition) -> dict[Any, Any]:
    """Updates that restore an earlier choice of condition."""
    updates: dict[Any, Any] = {
        inputs.kind: chosen.kind,
        inputs.index: chosen.sample,
        inputs.tabs: gr.update(selected=chosen.kind),
    }
    if chosen.read is not None:
        picture = picture_file(picture_of_condition(chosen.read))
        updates |= {inputs.read: chosen.read, inputs.shown: gr.update(value=picture, visible=True)}
        updates[inputs.note] = describe_condition(chosen.read)
    if chosen.painting is not None:
        updates[inputs.canvas] = to_canvas(chosen.painting, False)
    return updates
