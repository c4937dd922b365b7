"""The text tab: a picture, two prompts, and the steps of the edit."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from midms.app import actions, editing, uploads
from midms.app.canvases import CANVAS, picture_file
from midms.app.page import HIDDEN, NETWORKS, AppContext, consume_upload, show_user_errors
from midms.config import ConfigError
from midms.io.files import write_atomically
from midms.io.provenance import Record, png_bytes, text_chunk
from midms.programs import how_to_install

NEEDS = """An edit by text needs the weights of a Stable Diffusion 1.x or 2.x in the form of diffusers, which do
not come with midms: a folder, or a repository of the hub (fetched when first used, some gigabytes). A GPU makes an
edit quick.
"""
NO_LIBRARY = f"**Edits by text need the extra `text`**: {how_to_install('text')}, and start the app again."
NOT_HERE = "This app was started without them; whoever runs it names them by `--text-weights`."


def text_tab(context: AppContext, weights: str | None, clip: str | None) -> None:
    """Layout and event handlers, or a note on what is missing."""
    if importlib.util.find_spec("transformers") is None:
        gr.Markdown(NO_LIBRARY, elem_id="text-needs")
        return
    if weights is None and not context.local:  # remote visitors may not name folders of this machine
        gr.Markdown(f"{NEEDS}\n{NOT_HERE}", elem_id="text-needs")
        return
    holder = editing.TextWeights(str(context.pipe.device))
    picture = gr.State(None)
    name, clip_name = text_weights(context, weights, clip)
    with gr.Row():
        with gr.Column(min_width=320):
            shown, upload, source, target = picture_inputs()
        with gr.Column(min_width=320):
            result, message, start, stop, download = edit_outputs()
        with gr.Column(min_width=320):
            gr.Markdown("### Reconstruction")
            rebuilt = gr.Image(show_label=False, interactive=False, height=CANVAS, format="png", buttons=[])
            numbers = edit_sliders()

    @show_user_errors(message)
    def receive(file: str | None) -> tuple[Any, str, str]:
        image = consume_upload(file, uploads.read_upload)
        image.thumbnail((1024, 1024))
        return image, picture_file(np.asarray(image)), f"Taken: your picture, {image.width} x {image.height} pixels."

    upload.upload(receive, upload, [picture, shown, message], **HIDDEN)

    @show_user_errors(message)
    def run(
        image: Any, source_words: str, target_words: str, weights_name: str, clip_weights_name: str, *values: Any
    ) -> Iterator[Any]:
        if image is None:
            raise ConfigError("no picture: upload one first")
        task = text_task(image, source_words, target_words, values)
        yield {message: "Loading the weights ...", download: gr.update(interactive=False)}
        if not context.local:
            weights_name, clip_weights_name = weights or "", clip or ""  # never taken from a request
        pipeline = holder.get(weights_name, clip_weights_name)
        for progress in editing.edit(pipeline, task):
            updates: dict[Any, Any] = {message: f"Step {progress.done} of {progress.total} ..."}
            if progress.picture is not None:
                updates[result] = picture_file(progress.picture)
            if progress.reconstruction is not None:
                saved = save_edit(context, progress, weights_name, task)
                updates |= {rebuilt: picture_file(progress.reconstruction), message: "Done."}
                updates[download] = gr.update(value=saved, interactive=True)
            yield updates

    inputs = [picture, source, target, name, clip_name, *numbers]
    event = start.click(
        run, inputs, [result, message, rebuilt, download], concurrency_id=NETWORKS, concurrency_limit=1,
        show_progress="minimal", **HIDDEN,
    )  # fmt: skip
    stop.click(lambda: "Stopped.", None, message, cancels=[event], **HIDDEN)


def text_weights(context: AppContext, weights: str | None, clip: str | None) -> tuple[Any, Any]:
    """Choice of the networks: by the person who runs the app, or by a visitor on this machine."""
    with gr.Accordion("Weights", open=weights is None):
        gr.Markdown(NEEDS, elem_id="text-needs")
        name = gr.Textbox(weights or "", label="Stable Diffusion", elem_id="text-weights", interactive=context.local)
        clip_name = gr.Textbox(clip or "", label="CLIP, where the weights hold none (openai/clip-vit-base-patch32)",
                               interactive=context.local)  # fmt: skip
    return name, clip_name


def picture_inputs() -> tuple[Any, Any, Any, Any]:
    """The picture, the button that uploads one, and the two prompts."""
    gr.Markdown("### Picture")
    shown = gr.Image(show_label=False, interactive=False, height=CANVAS, format="png", buttons=[],
                     elem_id="text-picture")  # fmt: skip
    upload = gr.UploadButton("Upload a picture", elem_id="upload-text-picture")
    source = gr.Textbox(label="It shows", placeholder="a cat on a bed", elem_id="source-prompt")
    target = gr.Textbox(label="It should show", placeholder="a dog on a bed", elem_id="target-prompt")
    return shown, upload, source, target


def edit_outputs() -> tuple[Any, Any, Any, Any, Any]:
    """The edit, the message below, and the buttons to start, stop and download."""
    gr.Markdown("### Edit")
    result = gr.Image(show_label=False, interactive=False, height=CANVAS, format="png", buttons=[],
                      elem_id="text-result")  # fmt: skip
    message = gr.Markdown("Upload a picture and say what it shows.", elem_id="text-message")
    with gr.Row():
        start = gr.Button("Edit", variant="primary", scale=3, elem_id="edit")
        stop = gr.Button("Stop", scale=1, min_width=80)
    download = gr.DownloadButton("PNG with settings", size="sm", interactive=False)
    return result, message, start, stop, download


def edit_sliders() -> list[Any]:
    """Sliders of an edit, with the method's defaults."""
    steps = gr.Slider(2, editing.MAX_STEPS, 50, step=1, label="Steps N", elem_id="text-steps")
    scale = gr.Slider(1, 20, 5, step=0.5, label="Guidance scale s")
    clip_weight = gr.Slider(0, 1, 0.1, step=0.01, label="λ₁, towards the words")
    structure_weight = gr.Slider(0, 3, 1, step=0.05, label="λ₂, keeping the structure")
    seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=actions.MAX_SEED)
    return [steps, seed, scale, clip_weight, structure_weight]


def text_task(image: Any, source: str, target: str, values: tuple[Any, ...]) -> editing.EditTask:
    """The visitor's inputs as a task.

    Raises:
        ConfigError: a number is missing.
    """
    if any(value is None for value in values):
        raise ConfigError("a number is missing: fill in steps, seed and weights")
    steps, seed, scale, clip_weight, structure_weight = values
    return editing.EditTask(
        image, source, target, int(steps), int(seed), float(scale), float(clip_weight), float(structure_weight)
    )


def save_edit(context: AppContext, progress: editing.EditProgress, weights: str, task: editing.EditTask) -> str:
    """The edit as a PNG with prompts and settings inside; returns its path."""
    context.prune()
    context.results.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=context.results, prefix="result-"))
    prompts = {"source_prompt": task.source_prompt, "target_prompt": task.target_prompt}
    record = Record(
        program="midms app (text)",
        weights=weights,
        seed=task.seed,
        settings={"method": "oig", **prompts, **(progress.settings or {})},
    )
    assert progress.picture is not None
    file = place / "midms-edit.png"
    write_atomically(file, png_bytes(progress.picture, text_chunk(record)))
    return str(file)
