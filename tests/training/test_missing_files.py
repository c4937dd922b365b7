"""A config whose files are missing names all of them at once, each with what helps."""

from __future__ import annotations

import files_on_disk
import pytest
from programs import ROOT, load_program
from small_runs import program

from midms.config import instantiate, load_config
from midms.training.missing import MissingFilesError, require_files

BASES = {"celeba": "CelebAMask-HQ", "deepfashion": "DeepFashion", "churches": "churches"}


@pytest.fixture(autouse=True)
def empty_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.mark.parametrize("name", BASES)
def test_everything_missing_is_told_at_once(name, capsys):
    assert program()(["--base", str(ROOT / f"configs/{name}.yaml"), "-t", "trainer.precision=32-true"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("main.py: ") for line in lines)
    assert "model.params.weights" in lines[0] and "docs/" in lines[0]
    assert lines[1].endswith("python scripts/download_weights.py vgg19")
    assert f"data/{BASES[name]}: no such folder; data/README.md" in lines[2]


@pytest.mark.parametrize("name", BASES)
def test_lists_are_told_with_the_command_that_makes_them(name, tmp_path):
    root = getattr(files_on_disk, name)(tmp_path / "set")
    small = [ROOT / f"configs/{name}.yaml", ROOT / "configs/small.yaml"]
    words = ["model.params.weights=demo", *(f"data.params.{part}.params.root=set" for part in ("train", "validation"))]
    require_files(load_config(small, words))
    lists = sorted(root.glob("lists/*.txt"))
    for file in (*lists, *root.glob("*.txt")):
        file.unlink()
    with pytest.raises(MissingFilesError) as caught:
        require_files(load_config(small, words))
    told = caught.value.lines
    assert len(told) == (2 if name == "churches" else 4)
    commands = [line.partition("; ")[2] for line in told if "prepare_data.py pairs" in line]
    assert len(commands) == 2 and all(f"--out set/lists/{file.name}" in " ".join(commands) for file in lists)
    if name != "churches":  # a training list without exemplars of the test set
        assert all(f"--names set/{split}.txt" in " ".join(commands) for split in ("train", "val"))
    alone = "data.params.train.params.exemplars={self: 1.0}"
    with pytest.raises(MissingFilesError) as caught:
        require_files(load_config(small, [*words, alone]))
    assert len(caught.value.lines) == len(told) - 1


@pytest.mark.parametrize("name", BASES)
def test_the_command_for_a_list_makes_one_that_the_data_set_reads(name, tmp_path):
    """And the list of the training has no exemplar of the test set."""
    root = getattr(files_on_disk, name)(tmp_path / "set")
    words = ["model.params.weights=demo", *(f"data.params.{part}.params.root=set" for part in ("train", "validation"))]
    config = load_config([ROOT / f"configs/{name}.yaml", ROOT / "configs/small.yaml"], words)
    for file in root.glob("lists/*.txt"):
        file.unlink()
    with pytest.raises(MissingFilesError) as caught:
        require_files(config)
    prepare = load_program("scripts/prepare_data.py").main
    for line in caught.value.lines:
        assert prepare([*line.partition("prepare_data.py ")[2].split(), "--quiet"]) == 0
    require_files(config)
    for part in ("train", "validation"):
        dataset = instantiate(config.data.params[part])
        item = dataset[0, 0] if dataset.draws_views else dataset[0]
        assert item["exemplar"].shape == (3, 64, 64)
        assert {exemplar for row in dataset.pairs.values() for exemplar in row} <= set(dataset.names)


#: What the weights of smaller first two stages need: of 64 pixels, and for churches of three latent channels.
WEIGHTS = {
    "celeba": ["model.params.weights=demo-64"],
    "deepfashion": ["model.params.weights=demo-64"],
    "churches": ["model.params.weights=demo-churches", "model.params.encoders.latent_channels=3"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BASES)
def test_small_lies_over_the_full_size_configs(name, tmp_path, capsys):
    """A warm-up step and an end-to-end step on the layout of each data set, without VGG-19."""
    getattr(files_on_disk, name)(tmp_path / "set")
    words = ["--base", str(ROOT / f"configs/{name}.yaml"), str(ROOT / "configs/small.yaml"), "-t"]
    words += [f"data.params.{part}.params.root=set" for part in ("train", "validation")]
    words += ["data.params.num_workers=0", "data.params.batch_size=2", "trainer.max_steps=2", "trainer.accelerator=cpu",
              "model.params.warmup_steps=1", *WEIGHTS[name]]  # fmt: skip
    assert program()(words) == 0, capsys.readouterr().err
    assert (tmp_path / f"runs/small/{name}/weights/config.json").is_file()
