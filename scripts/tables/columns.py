"""The columns of the tables: those of the evaluation suite, and those that only the tables have."""

from __future__ import annotations

from midms.evaluation.columns import SUITE_COLUMNS
from midms.evaluation.tables import Column

#: Columns without a file besides the weights: on the frozen first stage's own encoder, and on a fixed network.
ENCODER_COLUMNS = [
    Column("fd_reference", "FD-E", "lower", 1),
    Column("fd_exemplars", "FD-E w/ exemplars", "lower", 1),
    Column("diversity_encoder", "diversity-E", "higher", 3),
    Column("colour_encoder", "colour-E", "higher", 3),
    Column("texture_encoder", "texture-E", "higher", 3),
    Column("semantic_encoder", "semantic-E", "higher", 3),
    Column("fd_fixed_reference", "FD-L", "lower", 1),
    Column("fd_fixed_exemplars", "FD-L w/ exemplars", "lower", 1),
    Column("colour_fixed", "colour-L", "higher", 3),
    Column("texture_fixed", "texture-L", "higher", 3),
    Column("semantic_fixed", "semantic-L", "higher", 3),
]
_BEFORE = ("fid_reference", "swd_average", "lpips_diversity", "fid_exemplars", "colour", "texture", "semantic")
COLUMNS = [
    *(SUITE_COLUMNS[key] for key in _BEFORE),
    *ENCODER_COLUMNS,
    *(SUITE_COLUMNS[key] for key in ("psnr", "ssim")),
    Column("feature_distance", "feature distance", "lower", 3),
    Column("fixed_distance", "distance-L", "lower", 3),
    Column("sharpness", "sharpness", "higher", 3),
    Column("swd_truth", "SWD to truth", "lower"),
    Column("pck", "PCK 0.1", "higher", 3),
]
