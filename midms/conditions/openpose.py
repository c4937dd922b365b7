"""OpenPose's JSON format, with the variants of ComfyUI, DWPose and version 1.1."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field

from midms.io.files import BrokenFileError, read_json
from midms.io.schemas import check_content

_Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
_Canvas = Annotated[int, Field(ge=1, le=65536)]


class Person(BaseModel):
    """One entry of ``people``; other entries (face, hands, ids) are not read."""

    #: x, y and score of each joint; ``pose_keypoints`` is the key of version 1.1.
    pose_keypoints_2d: list[_Number] | None = Field(
        None, validation_alias=AliasChoices("pose_keypoints_2d", "pose_keypoints")
    )


def _nobody(entry: object) -> object:
    return None if entry == [] else entry


class Frame(BaseModel):
    """One picture. ``canvas_*`` are its pixels, as ComfyUI and DWPose write them."""

    people: list[Annotated[Person | None, BeforeValidator(_nobody)]]
    canvas_width: _Canvas | None = None
    canvas_height: _Canvas | None = None


def read_frame(file: Path) -> Frame:
    """The picture that a file describes. A list of frames (ComfyUI) may hold only one.

    Raises:
        BrokenFileError: the file is missing, has another format, or lists several frames.
    """
    content = read_json(file)
    if isinstance(content, list):
        if len(content) != 1:
            raise BrokenFileError(file, f"a list of {len(content)} frames; expected one: save it alone")
        content = content[0]
    frame: Frame = check_content(Frame, content, file, "an OpenPose file")
    return frame
