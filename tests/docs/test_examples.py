"""The documentation's cheap commands and its Python and YAML are run as they stand, in a folder with small files.

`RUNS` says which commands run, and what is made smaller by an option of the program itself. The names of
published networks in Python code stand for tiny random ones.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import files_on_disk
import numpy as np
import pytest
import torch
from documented import ROOT, Block, Command, all_blocks, all_commands, kind
from PIL import Image
from test_commands import module_of

sys.path.insert(0, str(ROOT / "tests" / "oig"))
SMALL_TRAINING = ("trainer.max_steps=2", "data.params.batch_size=2", "trainer.val_check_interval=2",
                  "data.params.validation.params.length=2")  # fmt: skip


class Run(NamedTuple):
    """A command that is run: what it is, options put at its end, words replaced."""

    pattern: str
    extra: tuple[str, ...] = ()
    replaced: tuple[tuple[str, str], ...] = ()


RUNS = [
    Run(r"midms translate --condition sample:1 --exemplar photo\.jpg --out out\.png$"),
    Run(r"midms samples --out samples\.png$"),
    Run(r"midms show out\.png"),
    Run(r"midms info"),
    Run(r"procedural --task faces --show 8", (), (("8", "2"),)),
    Run(r"procedural --time 200", (), (("200", "3"),)),
    Run(r"download_weights\.py --list"),
    Run(r"prepare_data\.py verify --data celeba --root CelebAMask-HQ$"),
    Run(r"prepare_data\.py keypoints photos --tool convert"),
    Run(r"prepare_data\.py pairs photos --out pairs\.txt"),
    Run(r"prepare_data\.py pairs CelebAMask-HQ/CelebA-HQ-img", ("--overwrite",)),  # the published list is there
    Run(r"prepare_data\.py cache --data celeba", ("--size", "16"), (("8", "0"),)),
    Run(r"evaluate\.py --generated out --reference photos --metrics fid,kid,swd,lpips", ("--metrics", "swd,psnr",
        "--truth", "photos"), (("out", "results"),)),
    Run(r"user_study\.py make", ("--count", "2")),
    Run(r"train_on_folder\.py portraits --out runs/mine --dry-run", ("--device", "cpu"), (("runs/mine", "runs/own"),)),
    Run(r"midms translate --condition photo\.jpg --exemplar cat\.jpg --weights runs/mine/weights --out mine\.png$"),
    Run(r"pack_weights\.py runs/demo_small_rate"),
]  # fmt: skip
SLOW_RUNS = [
    Run(r"benchmark\.py matching --sizes 64", ("--rounds", "1"), (("64", "16"),)),
    Run(r"reproduce_tables\.py --table 3 --benchmark faces$", ("--pairs", "2")),
    Run(r"reproduce_tables\.py --table rewarp", (), (("64", "2"),)),
    Run(
        r"train_on_folder\.py portraits --out runs/mine$",
        ("--size", "32", "--device", "cpu", "--steps", "1", "1", "1"),
        (("runs/mine", "runs/own"),),
    ),
    Run(r"benchmark\.py data --json", ("--rounds", "1", "--items", "2")),
    Run(r"verify_parity\.py ../shared/goldens_data"),
]
#: In the order in which a reader runs them: later ones start from what earlier ones leave.
TRAININGS = [
    "--base configs/first_stage/demo_vq_f4.yaml -t",
    "--base configs/ldm/demo.yaml -t",
    "--base configs/demo.yaml -t",
    "--base configs/demo.yaml -t --resume runs/demo",
    "--base configs/demo.yaml configs/demo_warmup.yaml -t",
    "--base configs/demo.yaml configs/demo_end_to_end.yaml -t",
    "--base configs/ldm/demo.yaml configs/ldm/demo_low_noise.yaml -t",
    "--base configs/ldm/demo.yaml -t run.name=demo_ldm_all_noise",
    "--base configs/demo.yaml configs/demo_end_to_end.yaml configs/demo_small_rate.yaml -t",
]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline_folder: Path) -> Path:
    """A folder with what the documentation takes for granted."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("configs", "scripts", "main.py"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("photo.png", "photo.jpg", "cat.jpg"):
        files_on_disk.photo(folder / name, 1, (80, 64))
    sketch = np.full((128, 128), 255, np.uint8)
    sketch[10:50, 20:22] = sketch[10:12, 20:44] = 0
    Image.fromarray(sketch).save(folder / "sketch.png")
    for place in ("photos", "results", "exemplars", "out/midms", "out/cocosnet", "cond", "ex"):
        for number in range(4):
            files_on_disk.photo(folder / place / f"{number}.png", number + 10 * len(place), (64, 64))
    for number in range(8):
        files_on_disk.photo(folder / "portraits" / f"{number}.png", number, (64, 64))
    for number in range(4):
        joints = np.random.default_rng(number).uniform(5, 60, (25, 3)).round(1)
        person = {"pose_keypoints_2d": joints.flatten().tolist()}
        file = folder / "photos_poses" / f"{number}_keypoints.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"version": 1.3, "people": [person]}))
    files_on_disk.celeba(folder / "CelebAMask-HQ")
    for run in ("demo_small_rate", "mine"):
        (folder / "runs" / run).mkdir(parents=True)
        (folder / "runs" / run / "weights").symlink_to(tiny_pipeline_folder)
    return folder


@pytest.fixture
def inside(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder of the test is the reader's; torch's threads stay as they were."""
    threads = torch.get_num_threads()
    monkeypatch.chdir(sandbox)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # some programs set them
        monkeypatch.setenv(name, str(threads))
    yield sandbox
    torch.set_num_threads(threads)


def fitting(run: Run) -> list[Command]:
    return [command for command in all_commands() if re.search(run.pattern, " ".join(command.words))]


def execute(run: Run) -> None:
    command = fitting(run)[0]
    words = [dict(run.replaced).get(word, word) for word in command.words[1:]] + list(run.extra)
    if command.words[0] == "midms":
        words = ["midms.cli", *words]
    name, arguments = (words[1], words[2:]) if words[0] == "-m" else (words[0], words[1:])
    assert module_of(name).main(arguments) == 0, command


@pytest.mark.parametrize("run", [*RUNS, *SLOW_RUNS], ids=lambda run: run.pattern)
def test_run_is_of_a_documented_command(run: Run) -> None:
    assert fitting(run), "no page shows this command any more"


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.pattern)
def test_command_runs(run: Run, inside: Path) -> None:
    execute(run)


@pytest.mark.slow
@pytest.mark.parametrize("run", SLOW_RUNS, ids=lambda run: run.pattern)
def test_slow_command_runs(run: Run, inside: Path, request: pytest.FixtureRequest) -> None:
    if "../shared" in run.pattern:
        (inside.parent / "shared").symlink_to(request.getfixturevalue("shared").resolve())
    execute(run)


@pytest.mark.slow
def test_trainings_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {" ".join(command.words) for command in all_commands()}
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    for arguments in TRAININGS:
        beginning = f"python main.py {arguments}"
        assert any(command.startswith(beginning) for command in shown), "no page shows this training any more"
        assert module_of("main.py").main([*arguments.split(), *SMALL_TRAINING]) == 0, arguments
    assert (tmp_path / "runs/demo_small_rate/weights/config.json").is_file()


@pytest.fixture(scope="module")
def tiny_networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Published name -> folder with a tiny random network of the same kind."""
    from tiny_stable_diffusion import tiny_pipeline

    folder = tmp_path_factory.mktemp("networks")
    pipeline = tiny_pipeline(torch.float32)
    pipeline.save_pretrained(folder / "diffusion")
    pipeline.clip_model.save_pretrained(folder / "clip")
    return {"CompVis/stable-diffusion-v1-4": str(folder / "diffusion"),
            "openai/clip-vit-base-patch32": str(folder / "clip")}  # fmt: skip


def example_names() -> dict[str, Any]:
    """Names that pages use without making them."""
    from midms.data.procedural.dataset import test_pairs as fixed_pairs

    pair = fixed_pairs("faces", 64, 1)[0]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))
    return {"maps": pair["condition"], "image": image}


@pytest.mark.parametrize("block", [b for b in all_blocks() if kind(b) == "python"], ids=lambda b: b.place)
def test_python_runs(block: Block, inside: Path, tiny_networks: dict[str, str]) -> None:
    source = block.text.replace('"cuda"', '"cpu"')
    for name, folder in tiny_networks.items():
        source = source.replace(f'"{name}"', repr(folder))
    exec(compile(source, block.place, "exec"), {"__name__": "documentation", **example_names()})
    for file in re.findall(r'\.save\("([^"]+)"\)', source):
        assert Image.open(inside / file).size == (128, 128)


@pytest.mark.parametrize("block", [b for b in all_blocks() if kind(b) == "yaml"], ids=lambda b: b.place)
def test_yaml_names_what_exists(block: Block) -> None:
    from omegaconf import OmegaConf

    from midms.config import SECTIONS, check_node

    node = OmegaConf.create(block.text)
    assert set(node) <= {*SECTIONS, "target", "params"}, block.place
    check_node(node, block.place)


def test_the_readme_makes_a_picture_in_three_lines() -> None:
    first = next(b for b in all_blocks() if b.file == "README.md" and kind(b) == "python")
    assert len(first.text.split("\n")) == 3 and '"demo"' in first.text and ".save(" in first.text
