#!/usr/bin/env python
"""Reproduce the paper's tables: sample missing pictures, measure them, and show the paper's numbers beside the results.

    python scripts/reproduce_tables.py --table 3 bands --benchmark faces            # components, with bounds
    python scripts/reproduce_tables.py --table 4 7 --benchmark faces --pairs 64 --report report.html
    python scripts/reproduce_tables.py --table 1 2 8 9 --benchmark faces            # beside a GAN that matches once
    python scripts/reproduce_tables.py --table 5 --benchmark faces --train 172      # losses: trains six models
    python scripts/reproduce_tables.py --table 1 2 --config configs/celeba.yaml --weights runs/celeba/weights
    torchrun --nproc-per-node 4 scripts/reproduce_tables.py --table 1 --config configs/celeba.yaml --weights ...

On the built-in benchmark the true translations are known, so that each row is also compared with them, pair by pair.
With --config the pairs are those of data.params.validation. OUT gets tableN.md, .tex and .json, and the samples and
features, which a second run reuses. docs/protocols.md explains each number.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midms.options import PROTOCOLS, add_overwrite_option
from midms.programs import handle_user_errors
from tables.tasks import COMPARISONS, TASKS, default_weights, task_of

if TYPE_CHECKING:
    from midms.evaluation.tables import Table
    from tables.measure import Job
    from tables.rows import PlannedRow

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("1", "2", "3", "4", "5", "7", "8", "9", "rewarp", "bands", "regions")


def build_parser() -> argparse.ArgumentParser:
    """The command line; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--table", nargs="+", choices=TABLES, required=True, help="of the paper; rewarp, "
                        "bands (table 3 by pyramid level) and regions (table 3 by what the exemplar shows) "
                        "are our own")  # fmt: skip
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--benchmark", choices=sorted(TASKS), help="drawn pairs with known answers (default: faces)")
    data.add_argument("--config", type=Path, metavar="YAML", help="training config whose validation pairs to take")
    parser.add_argument("--set", nargs="+", default=[], metavar="key.path=value", help="changes to the --config")
    parser.add_argument("--weights", help="folder, shipped name or hub repository (default: the benchmark's own; "
                        "for tables 1, 2, 8 and 9 alone those of the baseline's size)")  # fmt: skip
    parser.add_argument("--gan", metavar="WEIGHTS", help="of the baseline that matches once and generates, for tables "
                        "1, 2, 8 and 9 (default: the benchmark's own, if they are shipped)")  # fmt: skip
    parser.add_argument("--pairs", type=int, metavar="N", help="default: 256 of the benchmark, all of a data set")
    settings = "settings of the sampler (default: the weights' own with --benchmark, the paper's with --config)"
    parser.add_argument("--protocol", choices=PROTOCOLS, help=settings)
    parser.add_argument("--steps", type=int, metavar="T", help="T of tables 1 to 5 and rewarp")
    parser.add_argument("--calls", type=int, metavar="N", help="N of those tables (default: T / 4)")
    parser.add_argument("--seeds", type=int, default=1, metavar="K", help="sample with K seeds (default: 1)")
    parser.add_argument("--train", type=int, nargs="?", const=0, metavar="STEPS", help="tables 3 and 5: train a model "
                        "for each row first, for so many steps or as long as the config says")  # fmt: skip
    parser.add_argument("--continue", action="store_true", dest="continue_training", help="with --benchmark and "
                        "--train: start from the encoders of --weights and train through the whole loop "
                        "(configs/demo128_end_to_end.yaml), instead of from fresh encoders")  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="default: %(default)s")
    parser.add_argument("--device", help="default: cuda where there is one")
    nets = parser.add_argument_group(
        "network files (default: torch's cache; metrics whose file is missing are left out, and the file is named)"
    )
    nets.add_argument("--inception", type=Path, metavar="FILE", help="weights-inception-2015-12-05-6726825d.pth")
    nets.add_argument("--vgg19", type=Path, metavar="FILE", help="vgg19_conv.pth")
    nets.add_argument("--lpips", type=Path, metavar="FILE", help="torchvision's AlexNet")
    out = parser.add_argument_group("output")
    out.add_argument("--out", type=Path, default=Path("outputs/tables"), metavar="DIR", help="default: %(default)s")
    out.add_argument("--report", type=Path, metavar="FILE", help="also one self-contained HTML page: tables, plots, "
                     "pictures")  # fmt: skip
    add_overwrite_option(out)
    out.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    out.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    for name, least in (("pairs", 2), ("seeds", 1), ("batch_size", 1), ("steps", 2), ("calls", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')}: expected at least {least}, got {value}")
    _check_tables(parser, options)
    if options.set and not options.config:
        parser.error("--set: changes a --config, and none is given")
    if options.report and not options.report.resolve().parent.is_dir():
        parser.error(f"--report: no folder {options.report.resolve().parent}")
    if options.report and options.report.is_dir():
        parser.error(f"--report: {options.report} is a folder, give a file in it")
    if not options.config:
        options.benchmark = options.benchmark or "faces"
        options.weights = options.weights or default_weights(options.benchmark, options.table)
    return options


def _check_tables(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Stop at options that do not go with the tables."""
    trained = set(options.table) <= {"3", "5"}
    if options.train is not None and (not trained or options.train < 0):
        parser.error("--train: trains the rows of tables 3 and 5, for a number of steps of at least 1")
    if options.continue_training and (options.train is None or options.config):
        parser.error(
            "--continue: goes with --train on a --benchmark; a --config names its own model.params.encoders_from"
        )
    if options.train is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        parser.error("--train: train without torchrun (trainer.devices of the config), then measure with it")
    with_truth = [table for table in options.table if table in ("bands", "regions")]
    if with_truth and options.config:
        parser.error(f"--table {with_truth[0]}: compares with the true translation, which only a --benchmark knows")
    if options.gan and not set(options.table) & set(COMPARISONS):
        parser.error("--gan: compared in tables 1, 2, 8 and 9 only")
    if options.config and not options.weights and not (options.train is not None and trained):
        parser.error("--config: give the --weights to measure")


def sampler_settings(options: argparse.Namespace, info: dict[str, Any]) -> Any:
    """Settings of the full method."""
    from midms.diffusion.settings import InterleaveSettings
    from midms.models.translation_gan import GANSettings, MatchingGAN
    from midms.pipelines.settings import gan_settings, protocol_settings

    if info.get("kind") == MatchingGAN.kind:
        own_settings = GANSettings(**info.get("settings", {}))
        return gan_settings(own_settings, options.calls, options.protocol or "weights", options.steps)
    own = InterleaveSettings(**info.get("settings", {}))
    protocol = options.protocol or ("paper" if options.config else "weights")
    settings = protocol_settings(own, protocol)
    if protocol != "released":
        settings = settings.replace(threshold=own.threshold)  # Table 6: 0.3 or 0.5, by data set
    return settings.with_steps(options.steps, options.calls)


def open_data(options: argparse.Namespace, info: dict[str, Any]) -> tuple[Any, str, int, str]:
    """Pairs, their description, their number, and the matching data set of the paper."""
    if options.benchmark:
        from midms.data.procedural.dataset import test_pairs
        from tables.measure import check_task

        check_task(info, options.benchmark, options.weights)
        size, count = int(info.get("size", 64)), options.pairs or 256
        name = f"the built-in benchmark ({options.benchmark}, {size} pixels)"
        return test_pairs(options.benchmark, size, count), name, count, TASKS[options.benchmark].published_on
    from midms.config import ConfigError, check_node, instantiate, load_config, to_yaml

    node = load_config([options.config], options.set).get("data", {}).get("params", {}).get("validation")
    if node is None:
        raise ConfigError(f"--config: {options.config} names no data.params.validation, whose pairs the tables are of")
    check_node(node, "data.params.validation")
    dataset = instantiate(node)
    count = min(options.pairs or len(dataset), len(dataset))
    if count < 2:
        raise ConfigError(f"--config: {options.config}: a table needs at least 2 pairs, got {count}")
    kinds = {"deepfashion": "DeepFashion", "celeba": "CelebA-HQ"}  # the data sets of the paper's tables
    published = next((name for kind, name in kinds.items() if kind in str(node.target).lower()), "")
    return dataset, " ".join(to_yaml(node).split()), count, published


def compares_trainings(options: argparse.Namespace, table: str) -> bool:
    """Whether each row of a table has its own weights."""
    return table == "5" or (table == "3" and options.train is not None)


def training_of(options: argparse.Namespace) -> tuple[list[Path], list[str]]:
    """The configs of the full method's training, merged left to right, and the overrides."""
    if options.config:
        return [options.config], options.set
    task, start = task_of(options.benchmark, options.weights), [f"model.params.weights={options.weights}"]
    configs = [ROOT / config for config in task.configs]
    if not options.continue_training:
        return configs, [*start, "model.params.encoders_from=null"]
    return [*configs, ROOT / task.joint], [*start, f"model.params.encoders_from={options.weights}"]


def note_training(options: argparse.Namespace, table: Table) -> None:
    """Add to a table of trainings their lengths and initial weights."""
    from tables.ablations import ablation_config, start_weights

    bases, start = training_of(options)
    config = ablation_config(bases, ROOT / "configs/ablations/full.yaml", options.train or None, start)
    digests = start_weights(config)
    sources = ", ".join(f"{key} {config.model.params[key]} ({digest[:12]})" for key, digest in digests.items())
    steps, warming = int(config.trainer.max_steps), int(config.model.params.warmup_steps)
    table.notes.append(f"Each row: {steps} training steps, {warming} of them warm-up, from {sources or 'nothing'}")
    table.record["training"] = {"steps": steps, "warmup_steps": warming, "start": digests}


def rows_of(options: argparse.Namespace, table: str, settings: Any, size: int | None) -> list[tuple[PlannedRow, str]]:
    """The rows of a table, each with its weights, trained if the table needs them.

    Args:
        settings: of the full method. size: pictures' side that its weights are made for. None: not recorded.
    """
    from midms.diffusion.settings import InterleaveSettings
    from tables.ablations import ablation_config, trained_weights
    from tables.baseline import gan_weights, rows_of_gan
    from tables.rows import ABLATIONS, plans

    planned = plans(table, settings, truth=bool(options.benchmark), steps=options.steps)
    if not compares_trainings(options, table):
        rows = [(row, str(options.weights)) for row in planned]
        compared = table in COMPARISONS and isinstance(settings, InterleaveSettings)
        gan = gan_weights(options.benchmark, options.gan, options.weights, size) if compared else None
        return rows if gan is None else [rows[0], *rows_of_gan(options.benchmark, gan), *rows[1:]]
    bases, start = training_of(options)
    rows = []
    for row in planned:
        name = ABLATIONS[table].get(row.plan.name)
        if name is not None:
            ablation = ROOT / "configs/ablations" / f"{name}.yaml"
            config = ablation_config(bases, ablation, options.train or None, start)
            rows.append((row, str(trained_weights(options.out / "runs", name, config, options.train is not None))))
    return rows


def weights_info(options: argparse.Namespace) -> dict[str, Any]:
    """The metadata of the weights; with only --config and --train, the metadata that the training will write."""
    from midms.checkpoints.loading import open_weights
    from midms.config import load_config, resolve

    if options.weights:
        return open_weights(options.weights).info
    params = resolve(load_config([options.config], options.set)).get("model", {}).get("params", {})
    return {"settings": params.get("interleave", {})}


def make_job(options: argparse.Namespace, info: dict[str, Any]) -> Job:
    """The common inputs of all tables of this command."""
    import torch

    from midms.evaluation.records import Options
    from tables.measure import Job

    dataset, data, count, published = open_data(options, info)
    own_card = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    device = options.device or (own_card if torch.cuda.is_available() else "cpu")
    files = {name: getattr(options, name) for name in ("inception", "vgg19", "lpips")}
    measure = Options(**files, batch_size=options.batch_size, device=device, progress=not options.quiet)
    truth = bool(options.benchmark)
    return Job(dataset, data, count, truth, published, options.out, options.seeds, options.batch_size, measure)


def make_tables(options: argparse.Namespace) -> list[Table]:
    """Measure every requested table."""
    from midms.checkpoints.loading import open_weights
    from midms.diffusion.settings import InterleaveSettings
    from midms.evaluation.rows import rank_and_world
    from midms.progress import one_progress
    from tables.baseline import note_absent_gan
    from tables.measure import measure_table
    from tables.notes import training_notes

    info = weights_info(options)
    settings = sampler_settings(options, info)
    job = make_job(options, info)
    tables = []
    for number in dict.fromkeys(options.table):
        rows = rows_of(options, number, settings, info.get("size"))
        with one_progress(f"table {number}", hidden=options.quiet or rank_and_world()[0] > 0):
            table = measure_table(number, job, rows)
        if compares_trainings(options, number):
            note_training(options, table)
        if number in COMPARISONS:
            names = dict.fromkeys(weights for _, weights in rows)
            table.notes += training_notes([(name, open_weights(name).info) for name in names])
            if options.benchmark and len(names) == 1 and isinstance(settings, InterleaveSettings):
                note_absent_gan(options.benchmark, options.weights, table)
        tables.append(table)
    return tables


def table_files(options: argparse.Namespace, number: str) -> list[Path]:
    """The files of a table, in the order in which they are written."""
    return [options.out / f"table{number}.{ending}" for ending in ("json", "md", "tex")]


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse to replace files of other programs unless the user says so."""
    from midms.io.files import BrokenFileError, read_json
    from midms.io.outputs import check_output_files, is_ours

    def is_table(file: Path) -> bool:
        try:
            stored = read_json(file.with_suffix(".json"))  # which is written first
        except BrokenFileError:
            return False
        return isinstance(stored, dict) and {"number", "columns", "rows"} <= stored.keys()

    inputs = [path for name in ("config", "inception", "vgg19", "lpips") if (path := getattr(options, name))]
    files = [file for number in dict.fromkeys(options.table) for file in table_files(options, number)]
    report = [options.report] * bool(options.report)
    check_output_files([*files, *report], inputs, options.overwrite, lambda file: is_table(file) or is_ours(file))


def write(options: argparse.Namespace, tables: list[Table]) -> None:
    """Write the files and print the tables."""
    from midms.evaluation.tables import latex, markdown
    from midms.io.files import write_atomically

    for table in tables:
        contents = (json.dumps(table.as_dict(), indent=2) + "\n", markdown(table), latex(table))
        for file, content in zip(table_files(options, table.number), contents, strict=True):
            write_atomically(file, content)
    if options.report:
        from tables.report import write_tables_report

        write_tables_report(options.report, tables)
    if options.json:
        print(json.dumps([table.as_dict() for table in tables]))
    else:
        print("\n".join(markdown(table) for table in tables))


@handle_user_errors("reproduce_tables.py", "stopped; run the same command again to make what is missing")
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 on success, 2 with one line on a user's mistake."""
    options = parse(arguments)
    check_outputs(options)
    import torch

    from midms.training.errors import Interrupted
    from midms.training.run import USER_ERRORS

    distributed = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if distributed:
        torch.distributed.init_process_group("gloo")
    try:
        tables = make_tables(options)
    except USER_ERRORS as error:  # of trainings, some of which are not ValueErrors
        raise ValueError(str(error)) from error
    except Interrupted as error:
        raise KeyboardInterrupt from error
    first = not distributed or torch.distributed.get_rank() == 0
    if distributed:
        torch.distributed.destroy_process_group()
    if first:
        write(options, tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
