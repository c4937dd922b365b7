"""Golden files of the same form that hold less, or another data set: the runner takes every one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from golden_files import copy_case, golden

from parity import evaluation, matching, networks, pipeline
from parity.cases import CaseFunction, load_case
from parity.training import _Training, check_training

SUBSETS: list[tuple[CaseFunction, str, list[str]]] = [
    (networks.check_encoder, "enc_seg_l15", ["mid_layer2"]),
    (networks.check_head, "head_l15", ["theta_unit"]),
    (networks.check_vq, "vq_small", ["dec_noquant"]),
    (networks.check_vq, "vq_small", ["indices", "quantized"]),
    (networks.check_kl, "kl_small", ["dec_sample"]),
    (networks.check_kl, "kl_small", ["moments"]),
    (matching.check_warp, "corr_warp_10x10_b1", ["cycle"]),
    (matching.check_warp, "corr_warp_10x10_b1", ["mask", "fb_ts"]),
    (matching.check_chain, "ddim_chain_S16_N4", ["pred_x0_03"]),
    (evaluation.contextual_checks, "contextual_loss", ["1/loss", "0/grad_x"]),
    (evaluation.domain_checks, "domain_loss", ["second"]),
    (evaluation.small_operation_checks, "small_ops", ["img_denorm"]),
]


@pytest.mark.parametrize(("function", "name", "kept"), SUBSETS)
def test_a_file_may_store_a_part(function: CaseFunction, name: str, kept: list[str], tmp_path: Path) -> None:
    checks = function(copy_case(golden(f"{name}.safetensors"), tmp_path, kept))
    assert {word for word in kept if any(word in check.name for check in checks)} == set(kept)
    assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize(("function", "name"), [(networks.check_head, "head_l15"), (networks.check_vq, "vq_small")])
def test_an_output_that_nothing_computes_is_named(function: CaseFunction, name: str, tmp_path: Path) -> None:
    copied = copy_case(golden(f"{name}.safetensors"), tmp_path, add={"outputs/attention": torch.ones(1)})
    with pytest.raises(ValueError, match=f"{name}: this kind of case has no such output: attention"):
        function(copied)


def test_a_wrong_number_still_fails(tmp_path: Path) -> None:
    source = golden("domain_loss.safetensors")
    wrong = {"outputs/second": load_case(source).outputs["second"] + 0.1}
    checks = evaluation.domain_checks(copy_case(source, tmp_path, ["second"], add=wrong))
    assert [check.passed for check in checks] == [False]


@pytest.mark.slow
@pytest.mark.parametrize("kept", [["fb_mask_last"], ["latent_final", "step2_ref_new"], ["image"], ["unet_t"]])
def test_a_whole_inference_may_store_a_part(kept: list[str], tmp_path: Path) -> None:
    """Without the errors behind a mask, the picture before the decoder, or the extra call's noise."""
    source = golden("e2e_vq_l15_norefine.safetensors")
    checks = pipeline.check_end_to_end(copy_case(source, tmp_path, kept))
    assert [check for check in checks if not check.passed] == [] and len(checks) >= len(kept)


def test_a_training_iteration_of_the_fashion_data_set(tmp_path: Path) -> None:
    """The release's name of DeepFashion, whose terms have CelebA-HQ's weights; only some of the terms are stored."""

    def fashion(meta: dict[str, Any]) -> None:
        meta["config"]["dataset"] = "fashion"

    kept = ["loss/total", "loss/perc", "fwd/warped_ref"]
    checks = check_training(copy_case(golden("train_celeba_e2e_N2.safetensors"), tmp_path, kept, change=fashion))
    assert [check.name for check in checks] == sorted(kept, key=[check.name for check in checks].index)
    assert [check for check in checks if not check.passed] == []


@pytest.mark.slow
def test_churches_log_the_labels_of_the_last_rewarp(tmp_path: Path) -> None:
    """After the warm-up the release takes the label term of the last re-warp, and leaves the term out of the sum."""

    def later(meta: dict[str, Any]) -> None:
        meta["config"] |= {"n_iter": 11, "N": 4, "rand_idx": 0}

    generator = torch.Generator().manual_seed(0)
    noises = {
        f"inputs/noise/{name}": 0.12 * torch.randn(1, 4, 16, 16, generator=generator)
        for name in ("ref_start", "src_start", "orig_start")
    }
    source = golden("train_church_warmup.safetensors")
    case = load_case(copy_case(source, tmp_path, [], noises, later))
    with torch.no_grad():
        training = _Training(case)
        iteration = training.run()
        first = _Training(load_case(source)).run()
    assert iteration.segmentation is not None and first.segmentation is not None
    assert torch.equal(iteration.segmentation.warped, training.last_labels)
    assert not torch.allclose(iteration.segmentation.warped, first.segmentation.warped, atol=1e-2)
    assert torch.equal(iteration.segmentation.labels, first.segmentation.labels)
    torch.testing.assert_close(iteration.segmentation.warped.sum(dim=1), torch.ones(1, 16, 16))
