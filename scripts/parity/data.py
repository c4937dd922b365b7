"""Golden cases of the labels and photos that the released data classes make from real files.

The sample files are in ``../samples``, beside the golden folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
from skimage.feature import canny

from midms.data import CelebAEdges, ChurchesSegmentation, DeepFashionKeypoints, transforms
from midms.data.celeba import photo_file
from midms.data.exemplars import normalise_name
from midms.data.pairs import PairDataset
from midms.io.images import read_rgb
from parity.cases import CaseFunction, Check, compare

#: Pillow 13 resizes this photo (narrower and higher than the target) unlike all versions before it.
_RESIZED_OTHERWISE = "training/ADE_train_00015171"
_TRAINING_LOAD_SIZE = 286


def _samples(path: Path, folder: str) -> Path:
    root = path.resolve().parent.parent / "samples" / folder
    if not root.is_dir():
        raise ValueError(f"{root}: the samples that {path.name} was made from are not there")
    return root


def _checks(path: Path, dataset: PairDataset, name_of: Callable[[str], str]) -> list[Check]:
    """Checks of photo and maps of every image of a golden file, with the stored crop and flip."""
    golden, checks = np.load(path), []
    for key in dict.fromkeys(entry.partition("::")[0] for entry in golden.files):
        view = transforms.centre_view(dataset.load_size, dataset.size)
        if f"{key}::crop_x_y_flip" in golden.files:
            x, y, flip = (int(number) for number in golden[f"{key}::crop_x_y_flip"])
            view = transforms.View(x, y, bool(flip), dataset.size)
        item = transforms.apply_view(dataset.read(name_of(key)), view)
        differing = np.count_nonzero(item[3:] != golden[f"{key}::label_u8"])
        checks.append(compare(f"{key} label pixels that differ", float(differing), 0.0, 0.0))
        loose = key == _RESIZED_OTHERWISE and int(PIL.__version__.partition(".")[0]) >= 13
        want = golden[f"{key}::image_u8"].astype(np.int64)
        checks.append(compare(f"{key} image", item[:3].astype(np.int64), want, 14.0 if loose else 0.0))
    return checks


def _load_size(path: Path) -> int:
    return _TRAINING_LOAD_SIZE if path.stem.endswith("train") else 256


def celeba_checks(path: Path) -> list[Check]:
    """`celeba_edge_*`: the 15 maps and the photo of each sample face."""
    root = _samples(path, "CelebAMask-HQ-eyes-only" if "eyes_only" in path.name else "CelebAMask-HQ")
    return _checks(path, CelebAEdges(root, "val", load_size=_load_size(path)), lambda key: f"{key}.jpg")


def deepfashion_checks(path: Path) -> list[Check]:
    """`deepfashion_*`: the 20 maps and the photo of each sample."""
    dataset = DeepFashionKeypoints(_samples(path, "DeepFashion"), "val", load_size=_load_size(path))
    return _checks(path, dataset, lambda key: f"img/{key}.jpg")


def churches_checks(path: Path) -> list[Check]:
    """`lsun_ade_*`: class ids and the photo of each sample."""
    dataset = ChurchesSegmentation(_samples(path, "LSUN-church-layout"), "val", load_size=_load_size(path))
    return _checks(path, dataset, lambda key: f"{key}.jpg")


def canny_checks(path: Path) -> list[Check]:
    """The steps before the edge maps: grey photo, Canny edges at both sizes."""
    golden, checks = np.load(path), []
    for key in dict.fromkeys(entry.partition("::")[0] for entry in golden.files):
        folder, _, number = normalise_name(key).rpartition("/")
        photo = read_rgb(photo_file(_samples(path, folder), f"{number}.jpg"))
        grey = {size: transforms.grey_pixels(photo, size) for size in (256, 286)}
        checks.append(compare(f"{key} grey", grey[256], golden[f"{key}::gray256_u8"], 0.0))
        for size in (256, 286):
            want = golden[f"{key}::canny{size}_bool"]
            checks.append(compare(f"{key} canny at {size}", canny(grey[size]), want, 0.0))
    return checks


CASES: dict[str, CaseFunction] = {
    "celeba_edge_*.npz": celeba_checks,
    "celeba_canny_intermediates.npz": canny_checks,
    "deepfashion_*.npz": deepfashion_checks,
    "lsun_ade_*.npz": churches_checks,
}
