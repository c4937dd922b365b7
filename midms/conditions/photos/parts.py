"""Masks of the 13 face parts of a photo: inner parts from the mesh, skin and hair by GrabCut, ears by position."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from midms.conditions.photos.faces import CHIN, LEFT_SIDE, RIGHT_SIDE, TOP, Face, polygon
from midms.conditions.photos.models import PERSON_MASK, model_file
from midms.conditions.photos.networks import Pixels, open_network

Mask = NDArray[np.bool_]

OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149,
        150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
_UPPER_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
_UPPER_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
_LOWER_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
_LOWER_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
#: Points of the mesh around each inner part; right and left are the person's own.
INNER = {
    "r_eye": (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    "l_eye": (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
    "r_brow": (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    "l_brow": (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
    "nose": (168, 417, 465, 412, 399, 437, 420, 279, 358, 294, 327, 326, 2, 97, 98, 64, 129, 49, 198, 217, 174, 188,
             245, 193),
    "u_lip": (*_UPPER_OUTER, *reversed(_UPPER_INNER)),
    "l_lip": (*_LOWER_OUTER, *reversed(_LOWER_INNER)),
}  # fmt: skip
_MOUTH = (*_UPPER_INNER, *reversed(_LOWER_INNER))
_LIPS_APART = 0.02  # in units of the face's height: smaller openings count as a closed mouth
_FAR_SIDE = 18  # degrees of a turned head from which its far ear is hidden
_GRABCUT_SIDE = 192


class Frame(NamedTuple):
    """Every pixel in the face's own axes, in units of the face's height."""

    up: NDArray[np.float64]  # (H, W): 0 at the chin, 1 at the top of the mesh
    aside: NDArray[np.float64]  # (H, W): 0 in the middle between the ears, positive to the person's left
    half: float  # half the width of the mesh


class Areas(NamedTuple):
    """Masks (H, W) from which hair, skin and ears are segmented."""

    person: Mask
    oval: Mask  # the mesh of the face
    tall: Mask  # the oval stretched upwards to where hair usually begins
    core: Mask  # the oval without its rim
    crown: Mask  # above the face: hair, if there is any
    skin: Mask  # nearer in colour to the face's skin than to the crown


def person_mask(photo: Pixels) -> NDArray[np.float32]:
    """Probability that a pixel shows a person, (H, W)."""
    height, width = photo.shape[:2]
    side = 256
    small = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
    (mask,) = open_network(model_file(PERSON_MASK))(small / 255.0).values()
    return np.asarray(cv2.resize(mask.reshape(side, side), (width, height), interpolation=cv2.INTER_LINEAR))


def face_masks(photo: Pixels, face: Face) -> dict[str, Mask]:
    """Masks (H, W) of the visible face parts, by the names of `FACE_PARTS`.

    As in CelebAMask-HQ the skin includes brows, eyes, nose and lips, but not hair.
    """
    shape = photo.shape[:2]
    masks = {name: polygon(face.points, ids, shape) for name, ids in INNER.items()}
    if lips_apart(face) > _LIPS_APART:
        masks["mouth"] = polygon(face.points, _MOUTH, shape)
    frame, person = frame_of(face, shape), person_mask(photo)
    areas = find_areas(photo, face, frame, person)
    ears = ear_masks(face, frame, areas)
    hair = hair_mask(photo, face, frame, areas, person)
    for ear in ears.values():
        hair &= ~ear
    if hair.sum() > 0.02 * face.height**2:
        masks["hair"] = hair
    masks["skin"] = skin_mask(face, areas.oval | (areas.tall & areas.person), hair)
    return masks | ears


def lips_apart(face: Face) -> float:
    """Mean distance between the inner rims of the lips, in units of the face's height."""
    upper, lower = (face.points[list(ids), :2] for ids in (_UPPER_INNER[3:8], _LOWER_INNER[3:8]))
    return float(np.linalg.norm(upper - lower, axis=1).mean()) / face.height


def frame_of(face: Face, shape: tuple[int, int]) -> Frame:
    """The axes of a face at the pixels of a photo of `shape` (H, W)."""
    points = face.points[:, :2]
    up = (points[TOP] - points[CHIN]) / face.height
    left = np.array([-up[1], up[0]])
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    rest = np.stack([columns - points[CHIN, 0], rows - points[CHIN, 1]], axis=-1)
    middle = (points[RIGHT_SIDE] + points[LEFT_SIDE]) / 2 - points[CHIN]
    half = float(np.linalg.norm(points[RIGHT_SIDE] - points[LEFT_SIDE])) / 2 / face.height
    return Frame(rest @ up / face.height, (rest - middle) @ left / face.height, half)


def find_areas(photo: Pixels, face: Face, frame: Frame, person: NDArray[np.floating]) -> Areas:
    """Masks of the person, the face, the crown, and the pixels with the colour of the face's skin."""
    shape, body = photo.shape[:2], person > 0.5
    points = face.points[:, :2]
    up = (points[TOP] - points[CHIN]) / face.height
    over = np.clip((points - points[CHIN]) @ up - 0.75 * face.height, 0, None)
    oval, tall = polygon(points, OVAL, shape), polygon(points + 0.6 * over[:, None] * up, OVAL, shape)
    core = cv2.erode(oval.astype(np.uint8), _disc(0.06 * face.height)).astype(bool)
    crown = (person > 0.8) & ~tall & (frame.up > 1.0) & (frame.up < 1.4) & (np.abs(frame.aside) < frame.half)
    inner = np.logical_or.reduce([polygon(points, ids, shape) for ids in INNER.values()])
    bare = core & (frame.up > 0.25) & (frame.up < 0.85)
    bare &= ~cv2.dilate(inner.astype(np.uint8), _disc(0.03 * face.height)).astype(bool)
    return Areas(body, oval, tall, core, crown, skin_coloured(photo, bare if bare.any() else core, crown))


def skin_coloured(photo: Pixels, bare: Mask, crown: Mask) -> Mask:
    """Pixels near the median colour of bare skin, and nearer to it than to the crown. Lightness weighs little."""
    lab = cv2.cvtColor(cv2.GaussianBlur(photo, (0, 0), 1.0), cv2.COLOR_RGB2LAB).astype(np.float64)
    skin = np.median(lab[bare], axis=0)
    away = _colour_distance(lab, skin)
    near = away < 1.3
    if crown.sum() > 30:
        hair = np.median(lab[crown], axis=0)
        near &= (away < _colour_distance(lab, hair)) | (_colour_distance(hair, skin) < 0.6)
    return near


def _colour_distance(lab: NDArray[np.floating], colour: NDArray[np.floating]) -> NDArray[np.float64]:
    lightness = (lab[..., 0] - colour[0]) / 60
    return np.sqrt(lightness**2 + ((lab[..., 1:] - colour[1:]) ** 2).sum(-1) / 12**2)


def hair_mask(photo: Pixels, face: Face, frame: Frame, areas: Areas, person: NDArray[np.floating]) -> Mask:
    """Hair: person outside the face, cut out by its colours (GrabCut in Lab), in pieces that reach the head."""
    seeds = np.full(areas.oval.shape, cv2.GC_PR_BGD, np.uint8)
    body, outside, up, aside = areas.person, areas.person & ~areas.oval, frame.up, np.abs(frame.aside)
    seeds[outside & ((up > 0.25) | ((aside > 0.75 * frame.half) & (up > -0.5)))] = cv2.GC_PR_FGD
    seeds[areas.oval & (~areas.core | (up >= 0.86))] = cv2.GC_PR_BGD
    seeds[areas.tall & ~areas.skin & body & (up >= 0.9)] = cv2.GC_PR_FGD
    seeds[areas.tall & areas.skin & (up < 1.1)] = cv2.GC_BGD
    seeds[areas.core & (up < 0.86)] = cv2.GC_BGD
    seeds[areas.crown] = cv2.GC_FGD
    seeds[(person > 0.8) & ~areas.tall & ~areas.skin & (up > 0.3)] = cv2.GC_FGD
    seeds[body & (up < 0) & (up > -0.3) & (aside < 0.4 * frame.half)] = cv2.GC_BGD
    seeds[person < 0.15] = cv2.GC_BGD
    soft = cv2.GaussianBlur(_grab(photo, seeds), (0, 0), 0.012 * face.height)
    hair = (soft > 0.5) & (person > 0.3)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(hair.astype(np.uint8))
    kept = [
        k > 0 and stats[k, cv2.CC_STAT_AREA] > 0.02 * face.height**2 and up[labels == k].max() > 0.6
        for k in range(len(stats))
    ]
    return np.asarray(kept)[labels]


def skin_mask(face: Face, area: Mask, hair: Mask) -> Mask:
    """The largest piece of the face's area outside the hair, with small holes closed."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((area & ~hair).astype(np.uint8))
    largest = labels == (1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))) if len(stats) > 1 else area
    return cv2.morphologyEx(largest.astype(np.uint8), cv2.MORPH_CLOSE, _disc(0.02 * face.height)).astype(bool)


def ear_masks(face: Face, frame: Frame, areas: Areas) -> dict[str, Mask]:
    """Ears in an ellipse beside each end of the mesh.

    If the ellipse also holds background, no hair covers the ear, and the person's pixels there are the ear. If the
    ellipse lies inside the person, an ear needs skin-coloured pixels. The far ear of a turned head is left out.
    """
    points = face.points[:, :2]
    up = (points[TOP] - points[CHIN]) / face.height
    found = {}
    for name, point, sign in (("r_ear", RIGHT_SIDE, -1), ("l_ear", LEFT_SIDE, 1)):
        if sign * face.yaw > _FAR_SIDE:
            continue
        level = float((points[point] - points[CHIN]) @ up) / face.height
        near = ((frame.up - level) / 0.2) ** 2 + ((np.abs(frame.aside) - 1.04 * frame.half) / 0.12) ** 2 < 1
        near &= ~areas.oval & (np.sign(frame.aside) == sign)
        free = near & areas.person
        covered = free.sum() > 0.95 * near.sum()
        ear = free & areas.skin if covered else free
        ear = cv2.morphologyEx(ear.astype(np.uint8), cv2.MORPH_OPEN, _disc(0.02 * face.height)).astype(bool)
        if ear.sum() > (0.018 if covered else 0.006) * face.height**2:
            found[name] = ear
    return found


def _grab(photo: Pixels, seeds: NDArray[np.uint8]) -> NDArray[np.float32]:
    """GrabCut at `_GRABCUT_SIDE` pixels of the longer side: 1 in the foreground, at the photo's size."""
    height, width = seeds.shape
    if np.isin(seeds, (cv2.GC_FGD, cv2.GC_PR_FGD)).sum() < 100:
        return np.zeros(seeds.shape, np.float32)
    scale = _GRABCUT_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    lab = cv2.cvtColor(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    small = np.asarray(cv2.resize(seeds, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    cv2.setRNGSeed(0)  # of its k-means
    try:
        cv2.grabCut(lab, small, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # all seeds have the same label
        return np.zeros(seeds.shape, np.float32)
    cut = np.isin(small, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR))


def _disc(radius: float) -> NDArray[np.uint8]:
    side = 2 * int(radius) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
