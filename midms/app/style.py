"""Appearance of the page: colours and sizes for wide and narrow windows, tooltips, marks on old results."""

from __future__ import annotations

import json

import gradio as gr

STYLE = """
.gradio-container { max-width: 1360px !important; margin: auto; }
.swatch { display: inline-block; width: 0.9em; height: 0.9em; border-radius: 3px; border: 1px solid #8888;
  margin: 0 0.25em 0 0; vertical-align: -0.1em; }
.swatches { display: flex; flex-wrap: wrap; gap: 0.1em 0.9em; font-size: 0.85rem; }
#samples .grid-container, #exemplars .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)) !important; }
#samples .thumbnail-item, #exemplars .thumbnail-item { min-width: 0; width: 100%; }
.caption-label { font-size: 0.7rem !important; padding: 1px 5px !important; max-width: calc(100% - 6px) !important; }
#steps, #steps .grid-wrap { height: auto !important; min-height: 0 !important; max-height: none !important; }
#steps .grid-container { grid-template-columns: repeat(auto-fill, minmax(118px, 1fr)) !important; }
#origin .grid-container { grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)) !important; }
#steps .thumbnail-item, #origin .thumbnail-item { min-width: 0; width: 100%; }
#message { min-height: 1.6em; }
.says { font-size: 0.9rem; min-height: 1.4em; }
.says:not(:has(p)) { display: none !important; }
#result, #compare-picture { position: relative; }
body.inputs-changed #result:has(img) img, body.inputs-changed #compare-picture img { opacity: 0.3; }
body.inputs-changed #result:has(img)::after { content: "Made from other inputs: press Translate"; position: absolute;
  inset: auto 0 45% 0; text-align: center; font-weight: 600; color: var(--body-text-color); pointer-events: none; }
@media (max-width: 760px) {
  .gradio-container .row:has(> .column) { flex-direction: column !important; }
  .gradio-container .column { min-width: 0 !important; width: 100% !important; }
  .gradio-container main { padding: 8px !important; min-width: 0 !important; }
  #steps .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)) !important; }
  .caption-label { font-size: 0.6rem !important; padding: 1px 3px !important; }
  #origin-row { flex-direction: column !important; }
  #steps, #origin, #marked, #result, #compare-picture { width: 100% !important; min-width: 0 !important; }
}
"""

#: Element -> its tooltip.
HINTS = {
    "translate": "Make the picture: the condition says what goes where, the exemplar how it looks",
    "stop": "End after the step that is being computed; nothing is kept",
    "amount": "N over T. 0: the exemplar warped into place, nothing drawn. Towards 1: more is drawn by the network, "
              "less is copied",
    "steps-t": "T, the steps of a whole run: more are slower and a little cleaner. Only the share above is computed",
    "tolerance": "γ of Equation 10: how far the way to the exemplar and back may miss a place that is still copied. "
                 "0: copy nothing again. 2: copy everywhere",
    "seed": "The same seed and inputs make the same picture",
    "download-png": "The result; its settings are inside and `midms show midms.png` reads them",
    "download-gif": "The loop as an animation: condition, exemplar, and each step that is shown below",
    "download-zip": "The result, its inputs, and the command that makes it again from them",
    "command": "Run it where the ZIP was unpacked: it makes the same picture",
    "compare-picture": "Move the line: the result on the right, what was chosen below on the left",
    "paint-sample": "Put the picked sample on the canvas, each part in its colour, to change it",
    "which-match": "The first match compares the condition with the exemplar; the last one the network's own "
                   "prediction",
}  # fmt: skip

_HEAD = """<style>%s</style><script>
const midmsHints = %s;
for (const kind of ["pointerdown", "keydown"])
  document.addEventListener(kind, (event) => { if (event.isTrusted) window.midmsTouched = true; }, true);
for (const kind of ["pointerover", "focusin"]) document.addEventListener(kind, (event) => {
  for (let node = event.target; node && node.getAttribute; node = node.parentElement)
    if (midmsHints[node.id]) { node.title = midmsHints[node.id]; break; }
});
</script>"""

#: Run in the browser: mark the result as one of other inputs, or remove this mark.
#: (Inputs that the page restores before any action of the visitor belong to the result.)
MARK_OLD = "() => { if (window.midmsTouched) document.body.classList.add('inputs-changed'); }"
MARK_NEW = "() => { document.body.classList.remove('inputs-changed'); }"


def head() -> str:
    """Additions to the page's head: the style, which Gradio would rewrite, and the hints."""
    return _HEAD % (STYLE, json.dumps(HINTS))


def mark_old_unless(mistake: str) -> str:
    """`MARK_OLD`, unless its input line begins with `mistake`."""
    return (
        f"(line) => {{ if (!(line || '').startsWith({json.dumps(mistake)})) "
        "document.body.classList.add('inputs-changed'); }"
    )


def theme() -> gr.themes.Base:
    """Theme with the fonts of the visitor's machine: no font is downloaded."""
    return gr.themes.Soft(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
