"""The web app: `python -m midms.app`. Plain functions do the work; `ui` and `text_ui` lay out the page."""
