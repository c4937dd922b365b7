"""The form of OpenPose's JSON, with what ComfyUI, DWPose and version 1.1 write otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, BaseModel, Field

from midms.io.files import BrokenFileError, read_json
from midms.io.schemas import check_content

_Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
_Canvas = Annotated[int, Field(ge=1, le=65536)]


class Person(BaseModel):
    """One entry of ``people``; what else stands there (face, hands, ids) is not read."""

    #: x, y and score of each joint; ``pose_keypoints`` is the key of version 1.1.
    pose_keypoints_2d: list[_Number] | None = Field(
        None, validation_alias=AliasChoices("pose_keypoints_2d", "pose_keypoints")
    )


class Frame(BaseModel):
    """One picture. ``canvas_*`` are its pixels, as ComfyUI and DWPose write them."""

    people: list[Person | None]
    canvas_width: _Canvas | None = None
    canvas_height: _Canvas | None = None


def read_frame(file: Path) -> Frame:
    """The picture that a file describes; of a list of frames (ComfyUI) there may be one.

    Raises:
        BrokenFileError: no such file, not of this form, or a list of several frames.
    """
    content = read_json(file)
    if isinstance(content, list):
        if len(content) != 1:
            raise BrokenFileError(file, f"a list of {len(content)} frames; expected one: save it alone")
        content = content[0]
    frame: Frame = check_content(Frame, content, file, "an OpenPose file")
    return frame
