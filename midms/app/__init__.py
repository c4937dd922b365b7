"""The web app: `python -m midms.app`. What it does is in plain functions, how it looks in `ui` and `text_ui`."""
