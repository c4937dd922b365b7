"""The benchmark measures what it says: same answers from every block, one JSON object per row, clear refusals."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import matching_blocks as blocks
from benchmarks.timing import ratio_of_rounds, time_rounds

SCRIPT = Path(__file__).parents[3] / "scripts" / "benchmark.py"
KEYS = ["name", "size", "device", "dtype", "pass", "median_ms", "peak_mb", "ratio"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def test_the_compared_blocks_compute_the_same() -> None:
    inputs = blocks.make_inputs(8, 2, "cpu", torch.float64)
    released, dense, streaming = (
        block(inputs)[:5] for block in (blocks.released_block, blocks._dense_block, blocks._streaming_block)
    )
    for one, other, exact in zip(released, streaming, dense, strict=True):
        assert torch.allclose(other, exact, atol=1e-10)
        assert torch.allclose(
            one, exact, atol=2e-2
        )  # the release's epsilon in the norms changes the temperature by 2e-5


def test_rows_as_json() -> None:
    result = run("matching", "--sizes", "8", "--rounds", "2", "--no-memory", "--json")
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    names = ["sgemm_ceiling", "qk_product", "qk_matrix", "streaming", "dense", "released_dense"]
    assert [row["name"] for row in rows] == names * 2 and all(list(row) == KEYS for row in rows)
    assert all(row["median_ms"] > 0 and row["size"] == "8x8" for row in rows)
    assert rows[5]["ratio"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required"),
        (["training-speed"], "invalid choice"),
        (["matching", "--device", "tpu"], "--device: got 'tpu', expected cpu or cuda"),
        (["matching", "--threads", "0"], "--threads: got 0, expected 1 or more"),
        (["matching", "--sizes", "0"], "--sizes: got 0, expected 1 or more"),
    ],
)
def test_usage_errors_exit_2_in_one_line(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr


def test_variants_take_turns() -> None:
    order: list[str] = []
    times = time_rounds({name: lambda name=name: order.append(name) for name in "ab"}, 3, "cpu")
    assert order == list("ab" * 4) and {len(values) for values in times.values()} == {3}
    assert ratio_of_rounds([2.0, 6.0, 8.0], [1.0, 2.0, 2.0]) == 3.0
