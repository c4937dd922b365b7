"""What the benchmarks compare and how they count: blocks of known work, drawn data, the clock of a training."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import data, feeding, matching, parts, steps
from benchmarks import matching_blocks as blocks
from benchmarks.flops import count_flop
from benchmarks.training_step import noise
from midms.data import CelebAEdges
from midms.data.verify import verify


@pytest.mark.parametrize("batch", [1, 3])
def test_inputs_have_a_match_for_every_query_somewhere_else(batch):
    """The key that a query was made of is the most alike one, and lies a quarter and a third of the side away."""
    size = 12
    inputs = blocks.make_inputs(size, batch, "cpu", torch.float64)
    assert inputs.query.shape == inputs.key.shape == (batch, blocks.CHANNELS, size, size)
    assert [len(inputs.latent[0]), len(inputs.labels[0]), len(inputs.weight[0])] == [3, 15, 21]
    query, key = (torch.nn.functional.normalize(side.flatten(2), dim=1) for side in (inputs.query, inputs.key))
    best = (query.mT @ key).argmax(2).reshape(batch, size, size)
    places = torch.arange(size * size).reshape(size, size).roll((size // 4, size // 3), (0, 1))
    assert torch.equal(best, places.expand(batch, size, size))
    assert torch.equal(blocks.make_inputs(size, batch, "cpu", torch.float64).query, inputs.query)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", ["qk_product", "qk_matrix"])
def test_the_floor_makes_the_products_of_the_block_and_no_others(name, backward):
    """One product of all queries with all keys forward; three more in the backward pass."""
    size, batch = 6, 2
    products = 4 if backward else 1
    made = count_flop(blocks.build(name, size, batch, "cpu", torch.float32, backward))
    assert made == products * batch * 2 * size**4 * blocks.CHANNELS
    ceiling = 2 * blocks.CEILING_SIZE**3
    assert blocks.ceiling_scale(size, batch, backward) * ceiling == pytest.approx(made)


def test_a_tile_that_the_tokens_do_not_fill_is_cut():
    """18 x 18 = 324 tokens are a tile of 256 rows and one of 68."""
    made = count_flop(blocks.build("qk_product", 18, 1, "cpu", torch.float32, False))
    assert made == 2 * 324**2 * blocks.CHANNELS


@pytest.mark.parametrize("name", ["released_dense", "dense", "streaming"])
@pytest.mark.parametrize("backward", [False, True])
def test_every_block_runs_again_and_again_and_leaves_its_inputs(name, backward):
    run = blocks.build(name, 6, 1, "cpu", torch.float32, backward)
    assert run() is None and run() is None


def test_gradients_of_the_compared_blocks_are_equal():
    """What "forward+backward" measures: the same sum of the same outputs."""
    gradients = []
    for block in (blocks._dense_block, blocks._streaming_block):
        leaves = blocks.Inputs(*(t.detach().requires_grad_() for t in blocks.make_inputs(6, 1, "cpu", torch.float64)))
        warp, labels, cycle, *_ = block(leaves)
        (torch.cat([warp, labels, cycle], dim=1) * leaves.weight).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for dense, streaming in zip(*gradients, strict=True):
        torch.testing.assert_close(streaming, dense, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("limit", "expected"), [(1.0, 6), (0.001, 3)])
def test_rows_that_would_hold_too_large_a_matrix_are_left_out(monkeypatch, limit, expected):
    """8 x 8 tokens: 64 x 64 numbers of 4 bytes are 0.016 MB."""
    monkeypatch.setattr(blocks, "CEILING_SIZE", 16)
    parser = argparse.ArgumentParser()
    matching.add_arguments(parser)
    words = ["--sizes", "8", "--passes", "forward", "--rounds", "1", "--no-memory", "--dense-limit", str(limit)]
    rows = list(matching.run(argparse.Namespace(**vars(parser.parse_args(words)), device="cpu", threads=1)))
    names = [row["name"] for row in rows]
    assert len(rows) == expected and ("dense" in names) is (expected == 6)
    assert all((row["ratio"] is None) is ("released_dense" not in names) for row in rows)
    assert {(row["size"], row["pass"], row["peak_mb"]) for row in rows} == {("8x8", "forward", None)}


def test_drawn_faces_are_a_clean_data_set_at_the_published_sizes(tmp_path):
    root = data.draw_faces(tmp_path / "faces", 2)
    report = verify("celeba", root)
    assert report.counts["photos"] == 2 and [fault.reason for fault in report.faults] == ["no such list"]
    assert report.faults[0].file == "val.txt", "it is a training set alone"
    dataset = CelebAEdges(root, "train", size=16, exemplars={"easy": 1.0})
    assert len(dataset) == 2 and dataset[0, 0]["exemplar_name"] == "1" and dataset[1, 0]["exemplar_name"] == "0"
    with Image.open(root / "CelebA-HQ-img" / "0.jpg") as photo:
        assert photo.size == (1024, 1024)
    mask = np.asarray(Image.open(root / "CelebAMask-HQ-mask-anno" / "0" / "00000_skin.png"))
    assert mask.shape == (512, 512, 3) and set(np.unique(mask)) == {0, 255}


def test_a_training_is_stopped_after_its_steps_and_waits_lie_between_them(monkeypatch):
    """Steps of 100 ms; batches that take 30 ms, and the first one longer, which counts for nothing."""
    now = [1.0]
    monkeypatch.setattr(feeding, "_now", lambda device: now[0])
    clock, trainer = feeding.StepClock(3), SimpleNamespace(should_stop=False)
    module = SimpleNamespace(device=torch.device("cpu"))
    for step in range(3):
        now[0] += 0.03 if step else 5.0
        clock.on_train_batch_start(trainer, module, None, step)
        assert not trainer.should_stop
        now[0] += 0.1
        clock.on_train_batch_end(trainer, module, None, None, step)
    assert trainer.should_stop
    assert clock.steps == pytest.approx([100.0] * 3) and clock.waits == pytest.approx([30.0] * 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_is_timed_once_its_queue_is_empty(monkeypatch, workers):
    """Batches that were made ahead cost nothing; those behind them 40 ms each."""
    now, ahead = [1.0], 2 + 2 * workers
    monkeypatch.setattr(feeding, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def batches():
        for number in range(100):
            now[0] += 0.04 if number >= ahead else 0.0
            yield number

    loader = SimpleNamespace(num_workers=workers, train_dataloader=batches)
    assert feeding.time_loader(loader, 5) == pytest.approx([40.0] * 5)


def test_noise_depends_on_its_name_and_shape_alone():
    first = noise("fresh", (2, 3))
    torch.manual_seed(5)
    assert torch.equal(noise("fresh", (2, 3)), first) and not torch.equal(noise("source_start", (2, 3)), first)
    large = noise("fresh", (200, 200))
    assert abs(large.mean()) < 0.02 and large.std() == pytest.approx(1, abs=0.02)


def test_times_of_several_calls_of_a_part_add_up(monkeypatch):
    clock, now = parts.PartClock(), [0.0]
    monkeypatch.setattr(clock, "now", lambda: now[0])

    def work(milliseconds: float) -> float:
        now[0] += milliseconds
        return milliseconds

    decode, match = clock.wrap("decode", work), clock.wrap("matching", work)
    assert [decode(2.0), match(5.0), decode(milliseconds=4.0)] == [2.0, 5.0, 4.0]
    assert clock.milliseconds == {"decode": 6.0, "matching": 5.0} and clock.calls == {"decode": 2, "matching": 1}


def test_the_chosen_schedule_is_the_best_of_those_with_a_quarter_of_the_papers_calls():
    known = (("paper", 70, 0.1, 9.0), ("half", 18, 0.2, 9.0), ("near", 17, 0.4, 5.0), ("far", 8, 0.3, 6.0))
    rows = [{"name": name, "calls": calls, "feature_distance": own, "fixed_distance": fixed}
            for name, calls, own, fixed in known]  # fmt: skip
    assert steps.choose(rows) == "near" and steps.choose(rows[3:]) == "far" and steps.choose(rows[:2]) is None
    assert steps.choose([row | {"fixed_distance": None} for row in rows]) == "far"  # without the fixed network
    assert all(
        settings.num_interleaved_steps <= settings.num_inference_steps for settings in steps.schedules().values()
    )
