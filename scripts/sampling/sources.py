"""The pairs that scripts/sample.py translates: of the built-in benchmark, of a data set, or the user's own files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from midms.config import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from midms.models.encoded import Condition, Exemplar
    from midms.pipelines.making import Making
    from midms.pipelines.midms import MIDMsPipeline
    from midms.pipelines.settings import Settings

#: Split -> its data set in a training config.
SPLITS = {"train": "train", "val": "validation"}
#: Folders and files in OUT.
FOLDERS = ("conditions", "exemplars", "truth", "sources", "images")
INTERMEDIATES, CONTACT_SHEET = "intermediates", "contact_sheet.png"
_INTERMEDIATE_NAMES = ("warp.png", "prediction_*.png", "mask_*.png")


class Pair(NamedTuple):
    """One pair to be translated."""

    name: str  # of its files in OUT
    making: Making
    seed_or_index: int  # of the noise: the seed, or for the benchmark the index in its formula
    load: Callable[[], Loaded]


class OwnFiles(NamedTuple):
    """What the notes on a user's own files need."""

    exemplar: str  # its name
    size: tuple[int, int] | None  # of that file, (width, height); None: a sample of the package
    note: str  # on how the condition was read


class Loaded(NamedTuple):
    """The contents of a pair's files."""

    condition: Tensor  # (L, H, W)
    exemplar: Tensor  # (3, H, W) in [-1, 1]
    exemplar_condition: Tensor | None
    size: tuple[int, int]  # (H, W) of the result
    truth: Tensor | None = None  # (3, H, W), of the benchmark
    source: Tensor | None = None  # (3, H, W), the photo of a data set's condition
    own: OwnFiles | None = None  # None: a pair of a benchmark or a data set, which has no notes


def benchmark_pairs(options: argparse.Namespace, pipe: MIDMsPipeline, settings: Settings) -> list[Pair]:
    """Pairs of the built-in benchmark, with the noise formula of its published figures."""
    from midms.data.procedural.dataset import test_pairs
    from midms.pipelines.making import Making

    size, count = pipe.info.get("size") or 64, options.pairs or 64
    dataset = test_pairs(options.benchmark, size, count)

    def load(index: int) -> Loaded:
        item = dataset[index]
        shape = (int(item["truth"].shape[-2]), int(item["truth"].shape[-1]))
        return Loaded(item["condition"], item["exemplar"], item.get("exemplar_condition"), shape, item["truth"])

    def making(index: int) -> Making:
        inputs = {f"benchmark {options.benchmark}": f"pair {index} at {size} pixels"}
        return Making("sample.py", str(options.weights), settings, options.seed, inputs, protocol=options.protocol)

    return [Pair(f"{i:05d}", making(i), i, partial(load, i)) for i in range(count)]


def data_pairs(options: argparse.Namespace, pipe: MIDMsPipeline, settings: Settings) -> list[Pair]:
    """Pairs of a data set in a training config; pair i has the noise of the seed SEED+i.

    Raises:
        ConfigError: the config has no such data set, or the items are not pairs for these weights.
    """
    from midms.config import check, instantiate, load_config, resolve
    from midms.pipelines.making import Making
    from midms.pipelines.seeds import pair_seeds

    config = load_config([options.config])
    check(config)
    node = resolve(config)["data"]["params"].get(SPLITS[options.split])
    if node is None:
        raise ConfigError(f"--config: {options.config} has no data.params.{SPLITS[options.split]}")
    dataset = instantiate(node)
    count = min(options.pairs or len(dataset), len(dataset))

    encoders = pipe.model.encoders
    expected = 3 if encoders.condition_input == "latent" else encoders.config["condition_channels"]

    def load(index: int) -> Loaded:
        item = dataset[(index, 0) if getattr(dataset, "draws_views", False) else index]
        channels = len(item["condition"]) if "condition" in item else 0
        if channels != expected:
            raise ConfigError(f"--config: its conditions have {channels} channels, those of the weights {expected}")
        shape = (int(item["exemplar"].shape[-2]), int(item["exemplar"].shape[-1]))
        labels = item.get("exemplar_condition")
        return Loaded(item["condition"], item["exemplar"], labels, shape, item.get("truth"), item.get("source"))

    def making(index: int, seed: int) -> Making:
        name = dataset.names[index] if hasattr(dataset, "names") else f"item {index}"
        inputs = {f"{options.split} data of {options.config}": f"{name} of {node}"}
        return Making("sample.py", str(options.weights), settings, seed, inputs, protocol=options.protocol)

    seeds = pair_seeds(options.seed, range(count))
    return [Pair(f"{i:05d}", making(i, seed), seed, partial(load, i)) for i, seed in enumerate(seeds)]


def own_pairs(options: argparse.Namespace, pipe: MIDMsPipeline, settings: Settings) -> list[Pair]:
    """Pairs of the user's files, translated as by `midms translate` with the pair's seed."""
    from midms.data.samples import is_sample
    from midms.io.images import read_header
    from midms.pipelines.making import Making
    from midms.pipelines.reading import (
        input_digests,
        kind_of_condition,
        read_condition,
        read_exemplar,
        read_exemplar_condition,
    )
    from midms.pipelines.seeds import pair_seeds

    def pick(files: list[Path] | None, index: int) -> Path | None:
        return None if not files else files[index if len(files) > 1 else 0]

    released = pipe.model.encoders.form == "released"
    if released and not options.exemplar_condition:
        raise ConfigError("these weights also match the exemplar's own condition: give it with --exemplar-condition")
    pairs = []
    for index, (file, seed) in enumerate(
        zip(options.condition, pair_seeds(options.seed, range(len(options.condition))), strict=True)
    ):
        photo = pick(options.exemplar, index)
        maps = pick(options.exemplar_condition, index) if released else None
        assert photo is not None

        def load(file: Path = file, photo: Path = photo, maps: Path | None = maps) -> Loaded:
            built = read_condition(pipe, file)
            labels = None if maps is None else read_exemplar_condition(pipe, maps)[0]
            own = OwnFiles(str(photo), None if is_sample(photo) else read_header(photo).size, built.note)
            return Loaded(built.maps, read_exemplar(pipe, photo), labels, built.size, own=own)

        files = [file, photo, *([] if maps is None else [maps])]
        making = Making(
            program="sample.py",
            weights=str(options.weights),
            settings=settings,
            seed=seed,
            inputs=input_digests(pipe, [name for name in files if is_sample(name) or name.is_file()]),
            condition=str(file),
            condition_kind=kind_of_condition(pipe, file),
            exemplars=[str(photo)],
            exemplar_conditions=[] if maps is None else [str(maps)],
            protocol=options.protocol,
        )
        pairs.append(Pair(f"{index:05d}_{file.stem.replace(':', '-')}", making, seed, load))
    return pairs


def check_outputs(options: argparse.Namespace, pairs: list[Pair]) -> None:
    """Refuse to write over inputs, and over files that midms did not write unless the user says so.

    Args:
        pairs: those that will be made.
    """
    from midms.data.samples import is_sample
    from midms.io.outputs import check_output_files

    read = [*(options.condition or []), *(options.exemplar or []), *(options.exemplar_condition or [])]
    inputs = [file for file in read if not is_sample(file)] + [options.config] * bool(options.config)
    written = [options.out / folder / f"{pair.name}.png" for pair in pairs for folder in FOLDERS]
    if options.save_intermediates:
        for pair in pairs:
            folder = options.out / INTERMEDIATES / pair.name
            written += [file for pattern in _INTERMEDIATE_NAMES for file in sorted(folder.glob(pattern))]
    if options.contact_sheet:
        written.append(options.out / CONTACT_SHEET)
    check_output_files(written, inputs, options.overwrite)


def notes_of(pipe: MIDMsPipeline, loaded: Loaded, condition: Condition, exemplar: Exemplar, row: int) -> list[str]:
    """Why the picture of the user's own files cannot be good. Empty: a pair of a benchmark or a data set."""
    from midms.pipelines.notes import UsedExemplar, notes_on

    if loaded.own is None:
        return []

    def one(tensor: Tensor) -> Tensor:
        return tensor[row : row + 1]

    used = UsedExemplar(loaded.own.exemplar, loaded.exemplar, exemplar.map(one), loaded.own.size)
    return notes_on(pipe, loaded.condition, condition.map(one), [used], loaded.own.note)
