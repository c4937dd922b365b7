"""The panel of the exemplars: pick or upload up to three, and paint the parts that may be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from midms.app import actions, framing, uploads
from midms.app.canvases import CANVAS, painted_layers, picture_file, to_canvas
from midms.app.page import HIDDEN, MISTAKE, AppContext, consume_upload, show_user_errors
from midms.app.style import MARK_OLD, mark_old_unless
from midms.data.samples import COUNT, PREFIX

SLOTS = 3  # exemplars at once
PAINT = (255, 45, 120, 140)  # paint of the allowed part, over the exemplar


class ExemplarInputs(NamedTuple):
    """Components that hold the chosen exemplars, one entry per slot."""

    chosen: list[Any]  # ChosenExemplar or None
    editors: list[Any]  # with the paint
    notes: list[Any]  # last event of a slot, in words
    gallery: Any  # None: there are no samples for these weights


def exemplar_panel(context: AppContext) -> ExemplarInputs:
    """Up to three exemplars, picked or uploaded, with paint over the parts that may be used."""
    gr.Markdown("### 2 · Exemplars: how it looks")
    slot = gr.State(0)
    first = context.sample_exemplar(0) if context.task else None
    chosen, editors = [gr.State(first if number == 0 else None) for number in range(SLOTS)], []
    notes, gallery = [], None
    with gr.Tabs():
        for number in range(SLOTS):
            with gr.Tab(f"Exemplar {number + 1}") as tab:
                editor, note = exemplar_slot(context, number, chosen[number], first if number == 0 else None)
            editors.append(editor)
            notes.append(note)
            tab.select(lambda number=number: number, None, slot, **HIDDEN)
    gr.Markdown("Your own photo, or a sample from below. Paint what may be used of it; unpainted, all of it may be.")
    if context.task:
        gallery = gr.Gallery(show_label=False, columns=4, height=300, allow_preview=False, format="png",
                             elem_id="exemplars", buttons=[], selected_index=0)  # fmt: skip

        def take(event: gr.SelectData, open_slot: int) -> dict[Any, Any]:
            exemplar = context.sample_exemplar(int(event.index))
            text = f"Taken as exemplar {open_slot + 1}: {PREFIX}{int(event.index) + 1}."
            return {chosen[open_slot]: exemplar, editors[open_slot]: to_canvas(exemplar.pixels), notes[open_slot]: text}

        gallery.select(take, slot, [*chosen, *editors, *notes], **HIDDEN)
        gallery.select(None, js=MARK_OLD, **HIDDEN)
    return ExemplarInputs(chosen, editors, notes, gallery)


def small_exemplars(context: AppContext) -> list[str]:
    """Files of the built-in exemplars as small pictures."""
    return [picture_file(framing.enlarge(context.sample(index).exemplar, 96)) for index in range(COUNT)]


def exemplar_slot(
    context: AppContext, number: int, chosen: gr.State, first: actions.ChosenExemplar | None
) -> tuple[gr.ImageEditor, gr.Markdown]:
    """One exemplar with its paint, its upload button, and a status line."""
    editor = gr.ImageEditor(
        None if first is None else to_canvas(first.pixels), show_label=False, sources=(), transforms=(), layers=False,
        canvas_size=(CANVAS, CANVAS), fixed_canvas=True, format="png", elem_id=f"exemplar-{number + 1}", buttons=[],
        brush=gr.Brush(36, [("#ff2d78", 0.55)], ("#ff2d78", 0.55), "fixed"), eraser=gr.Eraser(36),
        placeholder="Pick one below, or upload a photo",
    )  # fmt: skip
    with gr.Row():
        upload = gr.UploadButton("Upload a photo", size="sm", elem_id=f"upload-exemplar-{number + 1}", min_width=90)
        remove = gr.Button("Remove", size="sm", min_width=60)
    note = gr.Markdown(elem_id=f"exemplar-note-{number + 1}", elem_classes=["says"])

    @show_user_errors(note)
    def receive(file: str | None) -> tuple[actions.ChosenExemplar, dict[str, Any], str]:
        read = consume_upload(file, lambda path: uploads.read_exemplar(path, context.size))
        text = f"Taken: your photo, used at {read.pixels.shape[1]} x {read.pixels.shape[0]} pixels."
        return actions.ChosenExemplar(read.pixels, size=read.size), to_canvas(read.pixels), text

    event = upload.upload(receive, upload, [chosen, editor, note], **HIDDEN)
    event.then(None, note, js=mark_old_unless(MISTAKE), **HIDDEN)
    remove.click(lambda: (None, None, f"Exemplar {number + 1} is not used."), None, [chosen, editor, note], **HIDDEN)
    for change in (remove.click, editor.input):
        change(None, js=MARK_OLD, **HIDDEN)
    return editor, note


def chosen_exemplars(
    slots: Sequence[actions.ChosenExemplar | None], editors: Sequence[dict[str, Any] | None]
) -> list[actions.ChosenExemplar]:
    """The exemplars of the filled slots, with their allowed parts."""
    chosen = []
    for exemplar, editor in zip(slots, editors, strict=True):
        if exemplar is not None:
            allowed = actions.allowed_part(painted_layers(editor), exemplar.pixels.shape[:2])
            chosen.append(exemplar._replace(allowed=allowed))
    return chosen


def paint_of(exemplar: actions.ChosenExemplar) -> NDArray[np.uint8] | None:
    """The paint, (CANVAS, CANVAS, 4), that `chosen_exemplars` reads as the allowed part. None: all of it."""
    if exemplar.allowed is None:
        return None
    left, top, width, height = framing.window((exemplar.pixels.shape[1], exemplar.pixels.shape[0]), CANVAS)
    allowed = Image.fromarray(exemplar.allowed).resize((width, height), Image.Resampling.NEAREST)
    paint = np.zeros((CANVAS, CANVAS, 4), np.uint8)
    paint[top : top + height, left : left + width][np.asarray(allowed)] = PAINT
    return paint


def shown_exemplars(inputs: ExemplarInputs, exemplars: Sequence[actions.ChosenExemplar]) -> dict[Any, Any]:
    """Updates that restore an earlier choice of exemplars."""
    updates: dict[Any, Any] = {}
    for number in range(SLOTS):
        exemplar = exemplars[number] if number < len(exemplars) else None
        updates[inputs.chosen[number]] = exemplar
        updates[inputs.editors[number]] = (
            None if exemplar is None else to_canvas(exemplar.pixels, paint=paint_of(exemplar))
        )
    return updates
