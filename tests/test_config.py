"""Configs: merged in order, every key checked, one line for a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from midms.config import ConfigError, check, instantiate, load_config

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def base(path: Path) -> list[Path]:
    """What an overlay is laid over; nothing for a whole config."""
    if path.name == "released.yaml":
        return [ROOT / "configs/celeba.yaml"]
    if path.name == "demo128_start.yaml":
        return [ROOT / "configs/first_stage/demo128_faces.yaml"]
    if path.name == "demo_low_noise.yaml":
        return [ROOT / "configs/ldm/demo.yaml"]
    if path.name == "demo_small_rate.yaml":
        return [ROOT / "configs/demo.yaml", ROOT / "configs/demo_end_to_end.yaml"]
    if path.name in ("matching_gan_figures.yaml", "matching_gan_churches.yaml"):
        return [ROOT / "configs/baselines/matching_gan.yaml"]
    overlay = path.parent.name == "ablations" or path.name in ("demo_warmup.yaml", "demo_end_to_end.yaml")
    return [ROOT / "configs/demo.yaml"] if overlay else []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_config_passes_the_check(path):
    check(load_config([*base(path), path]))


def test_files_merge_left_to_right_then_overrides():
    config = load_config([ROOT / "configs/demo.yaml", ROOT / "configs/demo_warmup.yaml"], ["trainer.max_steps=7"])
    check(config)
    assert config.run.name == "demo_warmup" and config.trainer.max_steps == 7
    assert config.model.params.encoders.out_channels == 64


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.max_step=3", "did you mean 'max_steps'"),
        ("model.params.learning_rat=1", "did you mean 'learning_rate'"),
        ("modle.params.seed=1", "did you mean 'model'"),
        ("run.nmae=x", "did you mean 'name'"),
        ("data.params.train.params.tsk=faces", "did you mean 'task'"),
        ("trainer", "expected key.path=value"),
    ],
)
def test_a_misspelt_key_names_the_right_one(override, message):
    with pytest.raises(ConfigError, match=message):
        check(load_config([ROOT / "configs/demo.yaml"], [override]))


def test_files_that_are_no_configs(tmp_path):
    with pytest.raises(ConfigError, match="no file"):
        load_config([tmp_path / "none.yaml"])
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected a mapping"):
        load_config([tmp_path / "list.yaml"])
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config([tmp_path / "broken.yaml"])
    with pytest.raises(ConfigError, match="section 'model' is missing"):
        check(OmegaConf.create({"data": {}}))


def test_targets_are_names_inside_the_package():
    with pytest.raises(ConfigError, match="not a name inside midms"):
        instantiate({"target": "os.system", "params": {"command": "true"}})
    with pytest.raises(ConfigError, match="no such target"):
        instantiate({"target": "midms.data.module.Nothing"})
    with pytest.raises(ConfigError, match="expected one of faces"):
        instantiate({"target": "midms.data.procedural.dataset.ProceduralImages", "params": {"task": "cats"}})
