"""Face parts or body joints from a photo of a person, or an error with the reason."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from midms.conditions.edges import FACE_PARTS
from midms.conditions.photos import faces, parts, people
from midms.conditions.photos.networks import Pixels, Window
from midms.conditions.poses import Pose
from midms.config import ConfigError

_SIDE = 512  # pixels of the longer side when faces and bodies are detected
_MAX_ALIGNED = 1024  # pixels per side of an aligned face
#: Degrees from which a face counts as a profile: the mesh of the hidden half is unreliable.
MAX_YAW = 36.0
_MIN_PRESENCE = 0.5
_MIN_PERSON = 0.05  # share of the photo: a smaller person mask counts as no person
#: Order in which parts are laid over each other in a map of ids.
_LAYERS = ("hair", "skin", "l_ear", "r_ear", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "u_lip", "mouth", "l_lip")


class PhotoError(ConfigError):
    """A photo that gives no condition. The message states the reason and a remedy."""


class Portrait(NamedTuple):
    """A face photo, and the parts of the face."""

    photo: Image.Image  # aligned, if requested
    parts: NDArray[np.uint8]  # ids (h, w): k + 1 for part k of `FACE_PARTS`, 0 for none; with the photo's aspect ratio
    note: str = ""  # for the user, or empty


def portrait(photo: Image.Image, align: bool = True, min_side: int = 0) -> Portrait:
    """The parts of the face of an RGB photo.

    Args:
        align: cut out the face as in CelebA-HQ and FFHQ, upright and in the middle; an aligned photo is
            not cut again.
        min_side: smallest number of pixels per side of an aligned face.
    Raises:
        PhotoError: there is no face, or the face is seen from the side or from behind.
        MissingModels: the network files are not in the cache.
    """
    small = _at_most(photo, _SIDE)
    pixels = np.asarray(small)
    face, count = find_face(pixels)
    note = f"{count} faces: the largest was taken; crop the photo for another one" if count > 1 else ""
    window = faces.aligned_window(face)
    if not align or faces.is_aligned(window, small.size):
        return Portrait(photo, part_ids(parts.face_masks(pixels, face)), note)
    scale = photo.width / small.width
    whole = Window(window.centre * scale, window.side * scale, window.angle)
    side = int(np.clip(round(whole.side), max(64, min_side), _MAX_ALIGNED))
    cut = Image.fromarray(faces.cut_aligned(np.asarray(photo), whole, side))
    near = np.asarray(_at_most(cut, _SIDE))
    masks = parts.face_masks(near, face.seen_in(window, len(near)))
    aligned = "the face was cut out of the photo, upright, as in CelebA-HQ"
    return Portrait(cut, part_ids(masks), "; ".join(filter(None, [note, aligned])))


def find_face(photo: Pixels) -> tuple[faces.Face, int]:
    """The largest face of a photo (H, W, 3), and the number of faces.

    Raises:
        PhotoError: no face is seen from the front.
    """
    boxes = faces.find_boxes(photo) or _in_windows(photo)
    found = [faces.fit_mesh(photo, box) for box in boxes]
    seen = [face for face in found if face.presence >= _MIN_PRESENCE]
    if not seen:
        person = float((parts.person_mask(photo) > 0.5).mean()) >= _MIN_PERSON
        what = "a person, but no face (seen from behind, covered or too small)" if person else "no face"
        raise PhotoError(f"{what} was found; give a photo that shows one face from the front")
    face = max(seen, key=lambda one: one.height)
    if abs(face.yaw) > MAX_YAW:
        raise PhotoError(
            f"the face is turned by about {abs(face.yaw):.0f} degrees, at most {MAX_YAW:.0f} can be used; give a photo "
            "that shows it from the front"
        )
    return face, len(seen)


def pose_of_person(photo: Image.Image) -> Pose:
    """OpenPose's 18 joints of the person in an RGB photo, (18, 3) in its pixels; NaN where a joint is unseen.

    Raises:
        PhotoError: nobody was found.
        MissingModels: the network files are not in the cache.
    """
    small = _at_most(photo, _SIDE)
    joints = people.find_joints(np.asarray(small))
    if joints is None or np.isnan(joints[:, 0]).all():
        raise PhotoError("nobody was found; give a photo of one person, whole or from the hips up")
    joints[:, :2] *= np.array(photo.size) / np.array(small.size)
    return joints


def part_ids(masks: dict[str, NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Masks of face parts as one map of ids (H, W): k + 1 for part k of `FACE_PARTS`, 0 for none."""
    ids = np.zeros(masks["skin"].shape, np.uint8)
    for name in _LAYERS:
        if name in masks:
            ids[masks[name]] = FACE_PARTS.index(name) + 1
    return ids


def _in_windows(photo: Pixels) -> list[faces.Box]:
    """Detect faces that are too small in the whole photo, in nine overlapping windows of half its side."""
    height, width = photo.shape[:2]
    side = max(height, width) / 2
    found: list[faces.Box] = []
    for y in (0.25, 0.5, 0.75):
        for x in (0.25, 0.5, 0.75):
            for box in faces.find_boxes(photo, Window(np.array([x * width, y * height]), side)):
                if all(np.abs(box.centre - other.centre).max() > max(other.size) / 2 for other in found):
                    found.append(box)
    return found


def _at_most(photo: Image.Image, side: int) -> Image.Image:
    """Reduce the photo to `side` pixels of its longer side; smaller photos are unchanged."""
    small = photo.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small
