"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from midms.checkpoints.folder import save_folder
from midms.models.denoiser import Denoiser
from midms.models.first_stage import FirstStage

ROOT = Path(__file__).resolve().parents[1]
FIRST_STAGE = {"kind": "vq", "ch": 8, "ch_mult": [1, 1, 2], "num_res_blocks": 1, "n_embed": 64, "norm_groups": 4}
DENOISER = {"model_channels": 16, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_resolutions": [2],
            "num_head_channels": 8, "norm_groups": 8}  # fmt: skip
ENCODERS = {"latent_channels": 3, "condition_channels": 15, "widths": [8, 8, 16], "out_channels": 16, "hidden": 8,
            "padding_mode": "reflect", "form": "paper", "condition_input": "unshuffle"}  # fmt: skip


settings.register_profile("same", max_examples=20, deadline=None, derandomize=True, database=None)
settings.register_profile("random", max_examples=200, deadline=None, print_blob=True)


def pytest_configure(config: pytest.Config) -> None:
    """`make test` tries the same examples in every run; with `-m slow` or `-m ''` they are random, and more."""
    settings.load_profile("same" if config.option.markexpr == "not slow" else "random")
    if "OMP_NUM_THREADS" not in os.environ:  # more threads change tiny random networks by up to 1e-5 between batches
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the machine's own cache; the tests, and what they start, see an empty one."""
    from midms.conditions.photos.models import model_folder

    before = model_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIDMS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield before


@pytest.fixture
def photo_networks(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real networks of `midms get photos`; tests that need them are skipped where nobody fetched them."""
    from midms.conditions.photos.models import missing

    if missing(own_cache):
        pytest.skip(f"needs the networks of `midms get photos` in {own_cache}")
    monkeypatch.setenv("MIDMS_CACHE", str(own_cache.parent))
    return own_cache


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material; tests that need it are skipped without it."""
    folder = Path(os.environ.get("MIDMS_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no reference material at {folder} (set MIDMS_SHARED)")
    return folder


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A real browser without a window: Playwright's `Browser`; tests that need it are skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs a program called chromium")
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    switches += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=switches)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small random first stage and denoiser, what stage 3 starts from."""
    torch.manual_seed(0)
    stage, denoiser = FirstStage(FIRST_STAGE), Denoiser(DENOISER)
    torch.nn.init.normal_(denoiser.unet.conv_out.weight, std=0.1)
    path = tmp_path_factory.mktemp("weights") / "tiny"
    configs = {"first_stage": stage.config, "denoiser": denoiser.config}
    return save_folder(path, {"first_stage": stage.model, "denoiser": denoiser.unet}, configs, {"size": 32})


@pytest.fixture(scope="session")
def tiny_pipeline_folder(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole small random pipeline, saved."""
    from midms.checkpoints.loading import load_denoiser, load_first_stage
    from midms.diffusion.settings import InterleaveSettings
    from midms.models.encoders import CorrespondenceEncoders
    from midms.models.midms import MIDMs
    from midms.pipelines.midms import MIDMsPipeline

    torch.manual_seed(1)
    denoiser = load_denoiser(tiny_weights)
    encoders = CorrespondenceEncoders(**ENCODERS)
    model = MIDMs(load_first_stage(tiny_weights), encoders, denoiser, load_denoiser(tiny_weights))
    settings = InterleaveSettings(num_inference_steps=16, num_interleaved_steps=4, refine_steps=2)
    pipe = MIDMsPipeline(model, settings, {"task": "faces", "size": 32})
    return pipe.save_pretrained(tmp_path_factory.mktemp("pipeline") / "tiny")


@pytest.fixture
def weights(tiny_pipeline_folder: Path) -> str:
    """The small pipeline as a command line names it."""
    return str(tiny_pipeline_folder)


@pytest.fixture(scope="session")
def tiny_gan_folder(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baseline that matches once and generates, small and random, saved."""
    from midms.checkpoints.loading import load_first_stage
    from midms.models.encoders import CorrespondenceEncoders
    from midms.models.translation_gan import GANSettings, Generator, MatchingGAN, generator_config
    from midms.pipelines.midms import MIDMsPipeline

    torch.manual_seed(4)
    stage, encoders = load_first_stage(tiny_weights), CorrespondenceEncoders(**ENCODERS, iterate=False)
    config = generator_config(encoders, stage.factor, {"widths": [16, 16, 8], "hidden": 8, "condition_width": 2})
    pipe = MIDMsPipeline(MatchingGAN(stage, encoders, Generator(config)), GANSettings(), {"task": "faces", "size": 32})
    return pipe.save_pretrained(tmp_path_factory.mktemp("gan") / "tiny")
