"""A step in parts, in 16 bits, compiled, in another memory format; and steps that are left out."""

from __future__ import annotations

import pytest
import torch
from small_runs import checkpoint, curve, gradients, program, stage_one, stage_three, stage_two

from midms.data.procedural.dataset import ProceduralImages, ProceduralPairs
from midms.training.stage import split_batch

END_TO_END = "model.params.warmup_steps=0"
NO_VALIDATION = "trainer.limit_val_batches=0"
DOUBLE = "trainer.precision=64-true"  # tau = 0.005 makes float32's rounding large; what is left in float64 is a fault


def poison(monkeypatch, dataset, key, broken):
    """Make the items at these places of the order unusable: their pixels are no numbers."""
    original, places = dataset.__getitem__, iter(range(10**6))

    def item(self, index):
        sample = original(self, index)
        if self.split == "train" and next(places) in broken:
            sample[key] = torch.full_like(sample[key], float("nan"))
        return sample

    monkeypatch.setattr(dataset, "__getitem__", item)


def test_parts_cover_a_batch():
    batch = {"image": torch.arange(5), "name": list("abcde")}
    parts = list(split_batch(batch, 2))
    assert [(first, share, last) for first, _, share, last in parts] == [(0, 0.6, False), (3, 0.4, True)]
    assert [part["name"] for _, part, _, _ in parts] == [["a", "b", "c"], ["d", "e"]]
    assert torch.equal(torch.cat([part["image"] for _, part, _, _ in parts]), batch["image"])


THRIFT = {
    "parts": ["model.params.accumulation=2"],
    "format": ["model.params.channels_last=true", "model.params.fused=true"],
    "checkpoints": ["model.params.gradient_checkpointing=true"],
    "compiled": ["model.params.compile=aot_eager"],
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tiny_weights):
    """A step without any of it."""
    run = tmp_path_factory.mktemp("plain") / "run"
    assert program()(stage_three(tiny_weights, run, 1, END_TO_END, NO_VALIDATION, DOUBLE)) == 0
    return run


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "parts")) for n in THRIFT])
def test_thrift_changes_no_gradient(name, tmp_path, tiny_weights, plain):
    """Parts of a batch, another memory format, checkpoints, a compiled U-Net: the same gradients and terms."""
    run = tmp_path / "run"
    assert program()(stage_three(tiny_weights, run, 1, END_TO_END, NO_VALIDATION, DOUBLE, *THRIFT[name])) == 0
    expected, actual = gradients(plain), gradients(run)
    scale = max(float(gradient.abs().max()) for gradient in expected)
    assert max(float((a - b).abs().max()) for a, b in zip(expected, actual, strict=True)) <= 1e-8 * scale
    assert curve(run) == pytest.approx(curve(plain), rel=1e-6)
    if name == "format":
        assert checkpoint(run, 1)["optimizer_states"][0]["param_groups"][0]["fused"] is True


def test_switches_reach_what_they_are_meant_for(tiny_weights):
    from midms.training.latent_diffusion import LatentDiffusionTraining

    denoiser = {"model_channels": 16, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_resolutions": [2],
                "num_head_channels": 8, "norm_groups": 8}  # fmt: skip
    module = LatentDiffusionTraining(
        str(tiny_weights), denoiser, channels_last=True, gradient_checkpointing=True, compile="eager"
    )
    module.setup("fit")
    unet = module.denoiser.unet
    assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert unet.is_gradient_checkpointing and unet._compiled_call_impl is not None
    assert all("_orig_mod" not in name for name in module.state_dict())
    with pytest.raises(ValueError, match=r"compile: got 'quick', expected one of .*inductor"):
        LatentDiffusionTraining(str(tiny_weights), denoiser, compile="quick")
    with pytest.raises(ValueError, match="accumulation: got 0"):
        LatentDiffusionTraining(str(tiny_weights), denoiser, accumulation=0)


def test_clipping_bounds_the_step_and_logs_the_norm_before(tmp_path, tiny_weights):
    main = program()
    for name, key in (("free", "model.params.gradient_clip=null"), ("clipped", "model.params.gradient_clip=0.5")):
        assert main(stage_three(tiny_weights, tmp_path / name, 1, key, NO_VALIDATION)) == 0
    norms = {name: curve(tmp_path / name, "train/grad_norm")[0] for name in ("free", "clipped")}
    assert norms["free"] == norms["clipped"] > 0.5
    norm = torch.cat([gradient.flatten() for gradient in gradients(tmp_path / "clipped")]).norm()
    assert float(norm) == pytest.approx(0.5, rel=1e-3)


def test_sixteen_bits(tmp_path, tiny_weights):
    """bf16-mixed: the networks run in bfloat16, so the loss moves, but a little; weights stay float32."""
    main, losses = program(), {}
    for precision in ("32-true", "bf16-mixed"):
        run = tmp_path / precision
        assert main(stage_three(tiny_weights, run, 1, END_TO_END, NO_VALIDATION, f"trainer.precision={precision}")) == 0
        losses[precision] = curve(run)[0]
    assert losses["bf16-mixed"] != losses["32-true"]
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.1)
    state = checkpoint(tmp_path / "bf16-mixed", 1)["state_dict"]
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}


def test_a_broken_step_touches_nothing(tmp_path, tiny_weights, monkeypatch, capsys):
    """The second of three batches holds a NaN: weights, moments and averages stay as after the first step."""
    poison(monkeypatch, ProceduralPairs, "source", {3})
    run = tmp_path / "run"
    more = ["model.params.ema_decay=0.9", "run.keep=9", "model.params.warmup_steps=1"]
    assert program()(stage_three(tiny_weights, run, 3, *more)) == 0
    assert "step 1: skipped, loss nan" in capsys.readouterr().out
    states = [checkpoint(run, step) for step in (1, 2, 3)]
    trained = [key for key in states[0]["state_dict"] if not key.endswith(("weight_u", "weight_v"))]

    def same(one, two):
        return all(torch.equal(one["state_dict"][key], two["state_dict"][key]) for key in trained)

    assert same(states[0], states[1]) and not same(states[1], states[2])
    moments = [state["optimizer_states"][0]["state"] for state in states]
    assert all(torch.equal(moments[0][k]["exp_avg"], moments[1][k]["exp_avg"]) for k in moments[0])
    assert curve(run, "train/skipped") == {0: 0, 1: 1, 2: 1}
    assert all(value.isfinite().all() for value in states[2]["state_dict"].values())


@pytest.mark.parametrize("stage", ["first", "ldm", "midms"])
def test_too_many_broken_steps_stop_the_run_in_one_line(stage, tmp_path, tiny_weights, monkeypatch, capsys):
    """In all three stages; the line names the step and the items, and weights are as they were."""
    poison(monkeypatch, ProceduralImages, "image", range(2, 99))
    poison(monkeypatch, ProceduralPairs, "source", range(2, 99))
    run, more = tmp_path / "run", ["run.max_bad_losses=2", "run.keep=9"]
    arguments = {
        "first": stage_one(run, 9, "model.params.discriminator_from=0", *more),
        "ldm": stage_two(tiny_weights, run, 9, *more),
        "midms": stage_three(tiny_weights, run, 9, *more),
    }[stage]
    assert program()(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("main.py: step 2: loss nan") and "2 steps in a row" in error
    assert ("faces/train/" if stage == "midms" else "item ") in error
    state = checkpoint(run, 2)["state_dict"]
    assert all(value.isfinite().all() for value in state.values() if value.is_floating_point())
