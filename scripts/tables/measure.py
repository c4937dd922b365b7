"""Measure the rows of a table of the paper: sample missing images, evaluate, compare with the published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from midms.config import ConfigError
from midms.diffusion.settings import InterleaveSettings
from midms.evaluation import benchmark
from midms.evaluation.folders import ImageFolder
from midms.evaluation.records import Folders, Options, library_versions
from midms.evaluation.rows import rank_and_world
from midms.evaluation.suite import evaluate
from midms.evaluation.tables import Cell, Row, Table
from midms.losses.perceptual import FirstStageFeatures
from midms.metrics import fixed_features
from midms.metrics.fixed_features import EfficientNetLiteFeatures, MissingNetworkError
from midms.metrics.swd import SWDDifference, swd_paired_difference
from midms.metrics.truth import paired_difference, sharpness
from midms.models.matcher import Matcher
from midms.pipelines.midms import MIDMsPipeline
from midms.pipelines.settings import Settings
from tables.bands import DETAIL, band_columns, band_detail, level_cells
from tables.columns import COLUMNS
from tables.encoder_metrics import FIXED_LAYERS, EncoderMetrics
from tables.matching import matching_notes, matching_numbers
from tables.notes import column_notes, measurement_notes, paper_notes
from tables.published import OWN_TITLES, TITLES, published
from tables.regions import COLUMNS as REGION_COLUMNS
from tables.regions import NOTE as REGION_NOTE
from tables.regions import region_scores
from tables.rows import AXES, BOUNDS, PlannedRow, exemplar_counts
from tables.sampling import CrossedPairs, Plan, fingerprint, recipe_of, row_folder, sample

_SUITE = {"1": ("fid", "swd"), "2": ("style", "semantic"), "8": ("style", "semantic"), "9": ("fid", "swd")}
_STYLE_TABLES = ("2", "8")  # with scores of style and semantic content; the others have distances between sets
_CROSSED_EXEMPLARS, _MOST_CROSSED = 4, 250


@dataclass(frozen=True)
class Job:
    """Settings that all rows of a table share.

    Args:
        dataset: pairs; items have "truth" if `truth`.
        data: description of the dataset, which changes when the dataset changes.
        count: number of pairs, from the first.
        truth: whether the dataset is the built-in benchmark, whose true translation is known.
        published_on: data set of the published numbers, "" for none.
        out: folder for samples/ and cache/.
        seeds: number of runs of the sampler, from which the standard error is computed.
        options: of the metrics.
    """

    dataset: Dataset[Any]
    data: str
    count: int
    truth: bool
    published_on: str
    out: Path
    seeds: int = 1
    batch_size: int = 16
    options: Options = field(default_factory=Options)


@dataclass
class MeasuredRow:
    """Numbers of one row and seed, for the set or per pair."""

    values: dict[str, Cell] = field(default_factory=dict)
    per_pair: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, name: str, rows: np.ndarray) -> None:
        """Add one number per pair, and their mean with its standard error. NaN: not measured on that pair."""
        measured = rows[~np.isnan(rows)]
        error = float(measured.std(ddof=1) / np.sqrt(len(measured))) if len(measured) > 1 else float("nan")
        mean = float(measured.mean()) if len(measured) else float("nan")
        self.per_pair[name], self.values[name] = rows, Cell(mean, error)


class Session:
    """State of one run: folders, skipped metrics with their reasons, and hashes of the networks."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.names = [f"{index:05d}" for index in range(job.count)]
        self.partners = row_folder(job.out / "samples", "pairs", {"data": job.data, "count": job.count})
        self.skipped: dict[str, str] = {}
        self.networks: dict[str, str] = {}
        self.encoder: EncoderMetrics | None = None
        self._fixed: EncoderMetrics | None = None

    def load(self, weights: str) -> tuple[MIDMsPipeline, str]:
        """A pipeline on the job's device, and the hash of its weights; all rows use the first pipeline's encoder."""
        pipe = MIDMsPipeline.from_pretrained(weights, self.job.options.device)
        digest = fingerprint(pipe.model.state_dict())
        self.networks[str(weights)] = digest
        if self.encoder is None:
            features = FirstStageFeatures(pipe.model.first_stage.model)
            key = fingerprint(pipe.model.first_stage.state_dict())
            cache, options = self.job.out / "cache", self.job.options
            self.encoder = EncoderMetrics(features, key, cache, options.device, self.job.batch_size)
        return pipe, digest

    def fixed_network(self) -> EncoderMetrics | None:
        """Metrics on a network that is independent of our weights; None without its package (the reason is noted)."""
        try:
            self._fixed = self._fixed or EncoderMetrics(
                EfficientNetLiteFeatures(),
                fixed_features.SHA256,
                self.job.out / "cache",
                self.job.options.device,
                self.job.batch_size,
                FIXED_LAYERS,
            )
        except MissingNetworkError as error:
            self.skipped["-L"] = str(error)
        else:
            self.networks[fixed_features.NAME] = fixed_features.SHA256
        return self._fixed

    def sample(self, model: Matcher, digest: str, plans: Sequence[Plan]) -> dict[str, list[Path]]:
        """Folders of the rows' images, one per seed, filled."""
        folders: dict[str, list[Path]] = {}
        rows: dict[Path, tuple[Plan, int]] = {}
        for plan in plans:
            for seed in range(self.job.seeds):
                recipe = recipe_of(plan, digest, self.job.data, seed) | {"count": self.job.count}
                folder = row_folder(self.job.out / "samples", plan.name, recipe)
                rows[folder] = (plan, seed)
                folders.setdefault(plan.name, []).append(folder)
        job = self.job
        sample(model, job.dataset, self.names, rows, job.batch_size, self.partners, job.options.progress)
        return folders

    def sample_crossed(self, model: Matcher, digest: str, plans: Sequence[Plan]) -> dict[str, Path]:
        """Folders of outputs of one condition under several exemplars."""
        conditions = min(max(2, self.job.count // _CROSSED_EXEMPLARS), _MOST_CROSSED)
        crossed = CrossedPairs(self.job.dataset, conditions, min(_CROSSED_EXEMPLARS, self.job.count))
        recipe = {"crossed": crossed.places}
        folders = {
            plan.name: row_folder(
                self.job.out / "samples", f"{plan.name} crossed", recipe_of(plan, digest, self.job.data, 0) | recipe
            )
            for plan in plans
        }
        rows = {folders[plan.name]: (plan, 0) for plan in plans}
        sample(model, crossed, crossed.names, rows, self.job.batch_size, progress=self.job.options.progress)
        return folders

    def run_suite(self, folders: Folders, metrics: Sequence[str], measured: MeasuredRow) -> None:
        """Published metrics of a folder; the reasons for those that cannot be computed are stored."""
        options = replace(self.job.options, cache=self.job.out / "cache")
        for result in evaluate(folders, options, metrics):
            if result.status == "skipped":
                self.skipped[result.metric] = result.reason
            for name, value in result.values.items():
                measured.values[name] = Cell(value, result.standard_errors.get(name, float("nan")))
            for name, rows in result.per_image.items():
                measured.per_pair[name] = np.asarray(rows)
            if result.network:
                self.networks[result.network["name"]] = result.network["sha256"]

    def measure(self, table: str, folder: Path, crossed: Path | None) -> MeasuredRow:
        """All numbers of one folder of results."""
        assert self.encoder is not None  # a pipeline was loaded to make the folder
        measured, encoder = MeasuredRow(), self.encoder
        if table == "bands":
            for level, detail in band_detail(_images(folder)).items():
                measured.add(f"detail_{level}", detail)
            return measured
        if table == "regions":
            for name, accuracy in region_scores(_images(folder).float() / 127.5 - 1, self.job.dataset).items():
                measured.add(name, accuracy)
            return measured
        reference, exemplars = self.partners / "sources", self.partners / "exemplars"
        truth = self.partners / "truth" if self.job.truth else None
        metrics = _SUITE.get(table, ("fid",) if truth else ("fid", "swd"))
        # Tables 3 to 7 have no column against exemplars
        shown = exemplars if table in _SUITE else None
        self.run_suite(Folders(folder, reference, shown, truth), [*metrics, *(["psnr"] if truth else [])], measured)
        self._measure_features(table, measured, folder)
        if crossed is not None:
            self.run_suite(Folders(crossed), ["lpips"], measured)
            measured.add("diversity_encoder", encoder.diversity(ImageFolder(crossed)))
        if truth is not None:
            measured.add("feature_distance", encoder.distance(ImageFolder(folder), ImageFolder(truth), "truth"))
            measured.add("sharpness", _sharpness(folder, truth))
            fixed = self.fixed_network()
            if fixed is not None:
                measured.add("fixed_distance", fixed.distance(ImageFolder(folder), ImageFolder(truth), "truth"))
        return measured

    def _measure_features(self, table: str, measured: MeasuredRow, folder: Path) -> None:
        """Style and semantic content, or distances between sets, on the first stage and on a fixed network."""
        paths = (folder, self.partners / "exemplars", self.partners / "sources")
        generated, exemplars, sources = (ImageFolder(path) for path in paths)
        networks = {"encoder": self.encoder, "fixed": self.fixed_network() if table in _SUITE else None}
        for name, network in networks.items():
            if network is None:
                continue
            if table in _STYLE_TABLES:
                for kind, rows in network.style_scores(generated, exemplars, sources).items():
                    measured.add(f"{kind}_{name}", rows)
            else:
                prefix = "fd" if name == "encoder" else "fd_fixed"
                measured.values[f"{prefix}_reference"] = Cell(network.frechet(generated, sources))
                if table == "1":
                    measured.values[f"{prefix}_exemplars"] = Cell(network.frechet(generated, exemplars))


def _average(runs: Sequence[MeasuredRow]) -> MeasuredRow:
    """Means over seeds, with standard errors over seeds; a single run keeps its own errors."""
    if len(runs) == 1:
        return runs[0]
    result = MeasuredRow()
    for name in runs[0].values:
        means = np.array([run.values[name].mean for run in runs])
        result.values[name] = Cell(float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means))))
    for name in runs[0].per_pair:
        result.per_pair[name] = np.mean([run.per_pair[name] for run in runs], axis=0)
    return result


def _images(path: Path) -> torch.Tensor:
    folder = ImageFolder(path)
    return torch.stack([folder[index] for index in range(len(folder))])


def _sharpness(folder: Path, truth: Path) -> np.ndarray:
    """Sharpness of each picture against its true translation, (N,)."""
    got, want = (_images(path).float() / 127.5 - 1 for path in (folder, truth))
    return sharpness(got, want).numpy()


def _differences(first: MeasuredRow, row: MeasuredRow) -> dict[str, Cell]:
    """First row minus a row, over the pairs of both; outputs of one condition share an image, so they have none."""
    cells = {}
    left_out = ("ssim", "lpips_diversity", "diversity_encoder")
    for name in (name for name in first.per_pair if name not in left_out and name in row.per_pair):
        difference = paired_difference(first.per_pair[name], row.per_pair[name])
        cells[name] = Cell(difference.mean, difference.standard_error)
    return cells


@lru_cache(maxsize=256)  # tables of one command share rows, whose folders are named after all they depend on
def _swd_to_truth(first: Path, folder: Path, truth: Path) -> SWDDifference:
    """SWD to the true translations, patches at the same places, and its paired difference to the first row."""
    return swd_paired_difference(_images(first), _images(folder), _images(truth))


def measure_table(table: str, job: Job, rows: Sequence[tuple[PlannedRow, str]]) -> Table:
    """Sample and measure all rows.

    Args:
        rows: each with its weights; rows with the same weights folder are sampled together.
    Raises:
        ConfigError: no such weights. ValueError: weights and data are incompatible.
    """
    session = Session(job)
    folders: dict[str, list[Path]] = {}
    crossed: dict[str, Path] = {}
    matching: dict[str, dict[str, Any]] = {}
    mask: dict[str, float] = {}
    for weights in dict.fromkeys(weights for _, weights in rows):
        pipe, digest = session.load(weights)
        own = [planned.plan for planned, name in rows if name == weights]
        folders |= session.sample(pipe.model, digest, own)
        if table == "1":
            crossed |= session.sample_crossed(pipe.model, digest, [plan for plan in own if exemplar_counts(plan)])
        if job.truth and table not in ("bands", "regions") and rank_and_world()[0] == 0:
            dataset: Any = job.dataset  # drawn pairs, whose items have the truth
            pairs = list(benchmark.encoded_pairs(pipe.model, dataset, job.batch_size))
            matching[weights] = matching_numbers(pipe.model, pairs)
            settings = own[0].settings
            if table == "3" and not mask and isinstance(settings, InterleaveSettings):
                mask = benchmark.score_masks(pipe.model, pairs, settings)
    measured = {
        name: _average([session.measure(table, folder, crossed.get(name)) for folder in runs])
        for name, runs in folders.items()
    }
    result = _assemble(table, session, rows, folders, measured, matching)
    for weights, numbers in matching.items():
        prefix = f"{weights}: " if len(matching) > 1 else ""
        result.notes += [prefix + note for note in matching_notes(numbers, mask)]
    result.record |= {"matching": matching, "mask": mask}
    return result


def _assemble(
    table: str,
    session: Session,
    planned: Sequence[tuple[PlannedRow, str]],
    folders: Mapping[str, list[Path]],
    measured: Mapping[str, MeasuredRow],
    matching: Mapping[str, dict[str, Any]],
) -> Table:
    job = session.job
    prints = published(table, job.published_on) if job.published_on else {}
    first = planned[0][0].plan.name
    rows = []
    for (plan, x), weights in planned:
        row = Row(plan.name, dict(measured[plan.name].values), paper=dict(prints.get(plan.name, {})), x=x)
        if job.truth and rank_and_world()[0] == 0:
            gap = _swd_to_truth(folders[first][0], folders[plan.name][0], session.partners / "truth")
            levels, level_gaps = level_cells(gap) if table == "bands" else ({}, {})
            row.values |= levels | {"swd_truth": Cell(gap.swd_b.average)}
            if plan.name != first:
                row.differences = _differences(measured[first], measured[plan.name]) | level_gaps
                row.differences["swd_truth"] = Cell(gap.mean, gap.standard_error)
            if len(matching) > 1 and plan.method not in BOUNDS:
                row.values["pck"] = Cell(matching[weights]["first"]["pck"])
        rows.append(row)
    names = {row.name for row in rows}
    rows += [Row(name, paper=dict(numbers)) for name, numbers in prints.items() if name not in names]
    keys = {key for row in rows for key in (*row.values, *row.paper)}
    columns = [*band_columns(keys), *(column for column in [*REGION_COLUMNS, *COLUMNS] if column.key in keys)]
    record = {"data": job.data, "pairs": job.count, "seeds": job.seeds, "protocol": job.options.protocol}
    record |= {"networks": session.networks, "versions": library_versions(), "skipped": session.skipped}
    record["settings"] = {p.plan.name: _steps(p.plan.settings) for p, _ in planned}
    record["folders"] = {name: [str(path) for path in paths] for name, paths in folders.items()}
    record["partners"] = str(session.partners)
    return Table(
        table,
        (TITLES | OWN_TITLES)[table],
        columns,
        rows,
        _notes(session, keys, any(row.paper for row in rows)),
        AXES.get(table, ""),
        job.published_on,
        record,
    )


def _steps(settings: Settings) -> list[int]:
    """[T, N] of a diffusion, [N] of a method without one."""
    total = [settings.num_inference_steps] if isinstance(settings, InterleaveSettings) else []
    return [*total, settings.num_interleaved_steps]


def _notes(session: Session, keys: set[str], has_paper: bool = False) -> list[str]:
    """The notes; `has_paper`: the table has columns of the paper."""
    job = session.job
    notes = measurement_notes(job.count, job.data, job.seeds, session.skipped) + column_notes(keys, job.count)
    if has_paper:
        size = ImageFolder(session.partners / "exemplars").size
        notes += paper_notes(job.count, size, job.options.protocol, job.published_on, job.truth)
    if any(key.startswith("detail_") for key in keys):
        details = band_detail(_images(session.partners / "truth"))
        truth = ", ".join(f"{rows.mean():.2f} at {level}" for level, rows in details.items())
        notes.append(f"{DETAIL}; the truth has {truth}")
    if "psnr_visible" in keys:
        notes.append(REGION_NOTE)
    return notes


def check_task(pipe_info: Mapping[str, Any], task: str, weights: str) -> None:
    """Check that the weights were trained for the task.

    Raises:
        ConfigError: their record names another task.
    """
    weights_task = pipe_info.get("task")
    if weights_task is not None and weights_task != task:
        raise ConfigError(
            f"weights {weights!r} are of task {weights_task!r}, not {task!r}; give those of {task} (--weights)"
        )
