"""The program around the benchmarks: its tables, its options, and mistakes told before anything is measured."""

from __future__ import annotations

import argparse
import importlib
import json

import pytest
from programs import load_program

from benchmarks import data, matching, photos, sampling, steps, timing, training

program = load_program("scripts/benchmark.py")
COLUMNS = ("name", "size", "device", "dtype", "pass", "median_ms", "peak_mb", "ratio")


def options(module: object, *words: str, **changes: object) -> argparse.Namespace:
    """What the command line of a benchmark gives for these words, on one CPU thread."""
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return argparse.Namespace(**({"device": "cpu", "threads": 1} | vars(parser.parse_args(words)) | changes))


@pytest.fixture
def rows_of_data(monkeypatch):
    """Gives the benchmark `data` rows of the test's own, or an error in place of the second one."""

    def put(*rows: timing.Row | Exception) -> None:
        def run(_: argparse.Namespace):
            for row in rows:
                if isinstance(row, Exception):
                    raise row
                yield row

        monkeypatch.setattr(data, "run", run)

    return put


def test_a_row_has_the_columns_of_the_table():
    row = timing.row("plain", "8x8", "cpu", "float32", "item", [2.0, 4.0], 1.26, [4.0, 4.0])
    assert tuple(row) == COLUMNS == program.COLUMNS and len(program.WIDTHS) == len(COLUMNS)
    assert row["median_ms"] == 3.0 and row["ratio"] == 1.5 and row["peak_mb"] == 1.3


def test_the_table_has_a_dash_for_what_was_not_measured_and_more_columns_behind(rows_of_data, capsys):
    row = timing.row("plain", "8x8", "cpu", "float32", "item", [2.0], None, None)
    rows_of_data(row, row | {"name": "raw", "items_per_second": 12.5, "note": None})
    assert program.main(["data"]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == list(COLUMNS) and not header.endswith(" ")
    assert first.split() == ["plain", "8x8", "cpu", "float32", "item", "2.0", "-", "-"]
    assert second.split() == ["raw", *first.split()[1:], "items_per_second", "12.5", "note", "None"]
    assert header.index("size") == first.index("8x8") and header.index("median_ms") == first.index("2.0")


def test_json_is_one_object_per_row_and_nothing_else(rows_of_data, capsys):
    rows = [timing.row(name, "8x8", "cpu", "float32", "item", [2.0], None, None) | {"split": "val"} for name in "ab"]
    rows_of_data(*rows)
    assert program.main(["data", "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows


@pytest.mark.parametrize("error", [ValueError("--items: got 0"), FileNotFoundError("no file a.yaml")])
def test_a_mistake_found_on_the_way_keeps_the_rows_before_it_and_exits_2(rows_of_data, capsys, error):
    rows_of_data(timing.row("plain", "8x8", "cpu", "float32", "item", [2.0], None, None), error)
    with pytest.raises(SystemExit) as stopped:
        program.main(["data", "--json"])
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and str(error) in printed.err.splitlines()[-1]
    assert json.loads(printed.out)["name"] == "plain"


@pytest.mark.parametrize("name", program.BENCHMARKS)
def test_every_benchmark_says_what_it_does_and_has_defaults(name, capsys):
    module = importlib.import_module(program.BENCHMARKS[name])
    assert module.__doc__.startswith(f"`scripts/benchmark.py {name}`")
    defaults = program.parser().parse_args([name])
    assert (defaults.benchmark, defaults.device, defaults.threads, defaults.json) == (name, "cpu", 1, False)
    with pytest.raises(SystemExit) as stopped:
        program.main([name, "--help"])
    assert stopped.value.code == 0 and f"benchmark.py {name}" in capsys.readouterr().out
    assert module.SUMMARY[0].islower() and not module.SUMMARY.endswith(".")


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        (data, ["--items", "0"], "--items: got 0, expected 1 or more"),
        (data, ["--rounds", "-1"], "--rounds: got -1, expected 1 or more"),
        (data, ["--batch-size", "0"], "--batch-size: got 0, expected 1 or more"),
        (data, ["--steps", "0", "--config", "a.yaml"], "--steps: got 0, expected 1 or more"),
        (data, ["--step-ms", "0"], "--step-ms: got 0, expected more than 0"),
        (data, ["--step-ms", "-2.5"], "--step-ms: got -2.5, expected more than 0"),
        (matching, ["--sizes", "8", "0"], "--sizes: got 0, expected 1 or more"),
        (matching, ["--batch", "0"], "--batch: got 0, expected 1 or more"),
        (matching, ["--rounds", "0"], "--rounds: got 0, expected 1 or more"),
        (matching, ["--memory-only", "--no-memory"], "together nothing is measured"),
        (photos, [], "expected --faces CelebAMask-HQ or --people DeepFashion"),
        (sampling, ["--size", "0"], "--size: got 0, expected a multiple of 32"),
        (sampling, ["--batch", "0"], "--batch: got 0, expected 1 or more"),
        (steps, ["--batch-size", "0"], "expected at least 2, 2 and 1"),
        (steps, ["--choose", "1"], "expected at least 2, 2 and 1"),
        (training, ["--size", "0"], "--size: got 0, expected a multiple of 32"),
        (training, ["--config", "huge"], "--config: got 'huge', expected one of celebahq, churches, demo, tiny"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(monkeypatch, module, words, message):
    def measured(*_: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(timing, "time_once", measured)
    with pytest.raises(ValueError) as caught:
        list(module.run(options(module, *words)))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "--config", "a.yaml", "--pairs", "5"], "not allowed with"),
        (["sampling", "--modes", "slow"], "invalid choice: 'slow'"),
        (["steps", "--split", "train"], "invalid choice: 'train'"),
        (["matching", "--dtype", "int8"], "invalid choice: 'int8'"),
        (["training", "--batch", "two"], "invalid int value: 'two'"),
    ],
)
def test_options_that_no_benchmark_has_exit_2(capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        program.main(words)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
