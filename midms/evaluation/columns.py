"""The metrics of `midms.evaluation.suite` as columns of a table."""

from __future__ import annotations

from midms.evaluation.tables import Column

_ALL = (
    Column("fid_reference", "FID", "lower"),
    Column("fid_reference_infinity", "FID ∞", "lower"),
    Column("kid_reference", "KID", "lower", 4),
    Column("swd_average", "SWD", "lower"),
    Column("lpips_diversity", "LPIPS", "higher", 3),
    Column("fid_exemplars", "FID w/ exemplars", "lower"),
    Column("fid_exemplars_infinity", "FID ∞ w/ exemplars", "lower"),
    Column("kid_exemplars", "KID w/ exemplars", "lower", 4),
    Column("colour", "colour", "higher", 3),
    Column("texture", "texture", "higher", 3),
    Column("semantic", "semantic", "higher", 3),
    Column("psnr", "PSNR dB", "higher"),
    Column("ssim", "SSIM", "higher", 3),
    Column("lpips_distance", "LPIPS to truth", "lower", 3),
    Column("clip_similarity", "CLIP", "higher", 3),
    Column("structure_distance", "structure distance", "lower", 4),
    Column("background_lpips", "background LPIPS", "lower", 3),
)
#: Columns by the name of the value, in the order of a table.
SUITE_COLUMNS: dict[str, Column] = {column.key: column for column in _ALL}
