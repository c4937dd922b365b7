"""The translation tab: panels of condition and exemplars, and a button that fills the panel of the result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from midms.app import actions, record
from midms.app.condition_ui import ConditionInputs, chosen_condition, condition_panel, shown_condition, small_conditions
from midms.app.exemplar_ui import (
    SLOTS,
    ExemplarInputs,
    chosen_exemplars,
    exemplar_panel,
    shown_exemplars,
    small_exemplars,
)
from midms.app.finished import Finished
from midms.app.page import HIDDEN, NETWORKS, AppContext, show_user_errors
from midms.app.result_ui import (
    OriginView,
    ResultView,
    calls_of,
    nothing_finished,
    origin_panel,
    result_panel,
    shown_finished,
    shown_progress,
)
from midms.app.style import MARK_NEW
from midms.config import ConfigError


def translate_tab(context: AppContext, page: gr.Blocks) -> None:
    """Condition, exemplars and result side by side, with the steps and the origin of a pixel below."""
    with gr.Row():
        with gr.Column(scale=4, min_width=320):
            condition = condition_panel(context)
        with gr.Column(scale=4, min_width=320):
            exemplars = exemplar_panel(context)
        with gr.Column(scale=4, min_width=320):
            view = result_panel(context)
    gr.Markdown("### Where a pixel came from")
    origin = origin_panel(view)
    gr.Markdown("### The interleaved steps")
    gr.Markdown("*first warp*: the exemplar, put where the condition says. *n · prediction*: what the network makes of "
                "it, n steps before the end. *n · warp*: the exemplar matched again. *n · mask*: red is not copied.",
                elem_classes=["says"])  # fmt: skip
    steps = gr.Gallery(show_label=False, columns=7, fit_columns=False, object_fit="contain", format="png",
                       elem_id="steps", buttons=[], allow_preview=False, visible=False)  # fmt: skip
    connect_translate_button(context, condition, exemplars, view, origin, steps)
    fill_on_load(context, page, condition, exemplars, view, steps)


def connect_translate_button(
    context: AppContext,
    condition: ConditionInputs,
    exemplars: ExemplarInputs,
    view: ResultView,
    origin: OriginView,
    steps: gr.Gallery,
) -> None:
    """Connect the button: read the inputs, show each step as computed, save the result."""

    @show_user_errors(view.message)
    def run(kind: str, index: int, read: Any, canvas: Any, *values: Any) -> Iterator[dict[Any, Any]]:
        slots, editors, numbers = list(values[:SLOTS]), list(values[SLOTS : 2 * SLOTS]), values[2 * SLOTS :]
        yield nothing_finished(view, origin)
        maps, chosen = chosen_condition(context, kind, index, read, canvas)
        task = task_of(maps, chosen_exemplars(slots, editors), numbers)
        task = task._replace(read_note=chosen.read.note if chosen.read else "")
        for progress in actions.translate(context.pipe, task):
            if progress.result is None:
                yield shown_progress(view, steps, progress)
                continue
            context.prune()
            saved = record.save_result(context.results, progress.result, context.weights, progress.frames)
            finished = Finished(progress.result, progress.frames, saved, chosen)
            name = context.finished.add(finished)
            yield shown_finished(view, steps, finished, done_message(progress)) | {view.token: name}

    inputs = [condition.kind, condition.index, condition.read, condition.canvas, *exemplars.chosen, *exemplars.editors]
    outputs = [*result_outputs(view, steps), view.token, *origin]
    event = view.start.click(
        run, [*inputs, *view.numbers], outputs, concurrency_id=NETWORKS, concurrency_limit=1, show_progress="minimal",
        show_progress_on=view.picture,
        **HIDDEN,
    )  # fmt: skip
    view.start.click(None, js=MARK_NEW, **HIDDEN)
    view.stop.click(lambda: "Stopped.", None, view.message, cancels=[event], **HIDDEN)


def fill_on_load(
    context: AppContext,
    page: gr.Blocks,
    condition: ConditionInputs,
    exemplars: ExemplarInputs,
    view: ResultView,
    steps: gr.Gallery,
) -> None:
    """Show the samples when the page is opened, and a visitor's last picture with its inputs when it is reloaded.

    Drawing all samples takes most of a second, which the start of the program does not wait for.
    """

    def fill(name: object) -> Any:
        finished = context.finished.get(name)
        updates: dict[Any, Any] = {}
        if context.task:
            picked = 0 if finished is None else finished.condition.sample
            updates[condition.gallery] = gr.update(value=small_conditions(context), selected_index=picked)
            updates[exemplars.gallery] = gr.update(value=small_exemplars(context))
        if finished is None:
            return updates or gr.skip()
        task = finished.result.task
        message = "Your last picture, with the inputs that made it. Click it to see where a pixel came from."
        updates |= shown_finished(view, steps, finished, message)
        updates |= shown_condition(condition, finished.condition) | shown_exemplars(exemplars, task.exemplars)
        amount = task.calls if task.steps is None else task.calls / task.steps
        numbers = zip(view.numbers, (amount, task.steps, task.threshold, task.seed), strict=True)
        return updates | dict(numbers)

    shown = [part for part in (*condition, exemplars.gallery) if part is not None]
    outputs = [*result_outputs(view, steps), *shown, *exemplars.chosen, *exemplars.editors, *view.numbers]
    page.load(fill, view.token, outputs, show_progress="hidden", **HIDDEN)


def result_outputs(view: ResultView, steps: gr.Gallery) -> list[Any]:
    """Components that a finished picture fills."""
    return [
        view.picture, view.message, view.notes, view.finished, view.png, view.animation, view.bundle, view.command,
        view.beside, view.slider, steps,
    ]  # fmt: skip


def task_of(maps: Any, chosen: list[actions.ChosenExemplar], numbers: tuple[Any, ...]) -> actions.Task:
    """The visitor's inputs as a task.

    Args:
        numbers: amount of change, T, gamma and seed; for weights without a diffusion, T and gamma
            are None, and N replaces the amount of change.
    Raises:
        ConfigError: a number is missing.
    """
    amount, steps, threshold, seed = numbers
    if amount is None or seed is None or (steps is None) != (threshold is None):
        raise ConfigError("a number is missing under Advanced: each of them needs a value")
    if steps is None:
        return actions.Task(maps, chosen, None, int(amount), None, int(seed))
    return actions.Task(maps, chosen, int(steps), calls_of(amount, int(steps)), float(threshold), int(seed))


def done_message(progress: actions.Progress) -> str:
    """The message under a finished picture."""
    assert progress.result is not None
    whole = progress.result.task.steps
    said = (
        f"Done: {progress.total} calls of the generator."
        if whole is None
        else (f"Done: {progress.total} of {whole} steps computed.")
    )
    return f"{said} Click the picture to see where a pixel came from."
