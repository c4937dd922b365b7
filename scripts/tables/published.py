"""The paper's numbers: the rows of all methods in Tables 1, 2, 3, 4, 5, 7 and 9 (Table 8 shows pictures).

They were measured with networks and data that are not part of this repository (docs/protocols.md). An empty cell of the
paper is a missing key here.
"""

from __future__ import annotations

from collections.abc import Mapping

Published = Mapping[str, Mapping[str, float]]  # row -> column -> number

OURS = "MIDMs"
#: Rows of the baseline (`midms.models.translation_gan`): the plain form, and the form that matches its result again.
GAN, ITERATED_GAN = "matching GAN", "matching GAN, iterated"
FULL = "full method"

DATASETS = ("DeepFashion", "CelebA-HQ")  # of Table 1, in the order of its numbers
#: What each table shows.
TITLES = {
    "1": "Quality (FID, SWD) and diversity (LPIPS)",
    "2": "Style relevance and semantic consistency",
    "3": "Components, taken out one at a time",
    "4": "Noise level at sampling",
    "5": "Losses, taken out one at a time",
    "7": "Sampling steps",
    "8": "A matching GAN and its iterated form: to the true translation, style and semantic content",
    "9": "A matching GAN and its iterated form: distances to the photographs",
}
#: Tables that are not in the paper.
OWN_TITLES = {
    "rewarp": "Re-warp every k-th step",
    "bands": "Components by pyramid level: SWD to the true translation, and fine detail",
    "regions": "Components by region: what the exemplar shows, subject and surroundings",
}

_TABLE1_COLUMNS = ("fid_reference", "swd_average", "lpips_diversity", "fid_exemplars")
_TABLE1 = {
    "Pix2pixHD": ((25.20, 16.40, None, None), (42.70, 33.30, None, None)),
    "SPADE": ((36.20, 27.80, 0.231, None), (31.50, 26.90, 0.187, None)),
    "SelectionGAN": ((38.31, 28.21, 0.223, None), (34.67, 27.34, 0.191, None)),
    "SMIS": ((22.23, 23.73, 0.240, None), (23.71, 22.23, 0.201, None)),
    "SEAN": ((16.28, 17.52, 0.251, None), (18.88, 19.94, 0.203, None)),
    "UNITE": ((13.08, 16.65, 0.278, None), (13.15, 14.91, 0.213, None)),
    "CoCosNet": ((14.40, 17.20, 0.272, 11.12), (14.30, 15.30, 0.208, 11.01)),
    "CoCosNet v2": ((12.81, 16.53, 0.283, None), (12.85, 14.62, 0.218, None)),
    "MCL-Net": ((12.89, 16.24, 0.286, None), (12.52, 14.21, 0.216, None)),
    OURS: ((10.89, 10.10, 0.279, 8.54), (15.67, 12.34, 0.224, 10.67)),
}
_TABLE2_COLUMNS = ("colour", "texture", "semantic")
_TABLE2 = {
    "Pix2PixHD": (None, None, 0.914),
    "SPADE": (0.955, 0.927, 0.922),
    "MUNIT": (0.939, 0.884, 0.848),
    "EGSC-IT": (0.965, 0.942, 0.915),
    "CoCosNet": (0.977, 0.958, 0.949),
    OURS: (0.982, 0.962, 0.915),
}
_ABLATION_COLUMNS = ("fid_reference", "swd_average")
_ABLATIONS: dict[str, dict[str, tuple[float | None, ...]]] = {
    "3": {
        FULL: (15.67, 12.34),
        "no confidence mask": (19.21, 16.01),
        "one-time matching": (24.76, 23.71),
        "no diffusion": (128.70, 34.59),
    },
    "4": {"20 %": (23.67,), "25 %": (15.67,), "30 %": (16.01,), "35 %": (19.20,)},
    "5": {
        FULL: (15.67,),
        "w/o L_cycle": (16.18,),
        "w/o L_style": (19.23,),
        "w/o L_perc": (16.51,),
        "w/o L_dom": (16.68,),
        "w/o L_src": (72.25,),
    },
    "7": {"T = 200, N = 50": (15.67, 12.34), "T = 100, N = 25": (16.99, 13.33), "T = 16, N = 4": (17.94, 13.99)},
}
# of DeepFashion; the settings are not published
_TABLE9 = {"CoCosNet": (14.40,), "CoCosNet, iterated": (19.05,)}


def _rows(table: Mapping[str, tuple[float | None, ...]], columns: tuple[str, ...]) -> Published:
    return {
        name: {column: value for column, value in zip(columns, values, strict=False) if value is not None}
        for name, values in table.items()
    }


def published(table: str, dataset: str) -> Published:
    """The rows of a table of the paper.

    Args:
        table: "1", "2", "3", "4", "5", "7", "8" or "9".
        dataset: "DeepFashion" or "CelebA-HQ".
    Returns:
        {row: {column: number}}; empty if the paper has no numbers (Tables 2 to 7 are only of CelebA-HQ, Table 9 of
        DeepFashion; Table 8 has pictures).
    Raises:
        ValueError: another data set.
    """
    if dataset not in DATASETS:
        raise ValueError(f"data set {dataset!r}: the paper's tables are of {' and '.join(DATASETS)}")
    if table == "1":
        which = DATASETS.index(dataset)
        return _rows({name: pair[which] for name, pair in _TABLE1.items()}, _TABLE1_COLUMNS)
    if table == "9":
        return _rows(_TABLE9, ("fid_reference",)) if dataset == "DeepFashion" else {}
    if dataset != "CelebA-HQ":
        return {}
    if table == "2":
        return _rows(_TABLE2, _TABLE2_COLUMNS)
    return _rows(_ABLATIONS.get(table, {}), _ABLATION_COLUMNS)
