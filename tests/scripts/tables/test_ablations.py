"""Configs of trained rows: short ones keep their shape, and a folder belongs to one recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from midms.config import ConfigError
from tables.ablations import WARMUP_SHARE, ablation_config, run_folder, start_weights, trained_weights

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
BASE = [CONFIGS / "demo.yaml"]


def ablation(name: str) -> Path:
    return CONFIGS / "ablations" / f"{name}.yaml"


def test_a_short_training_keeps_a_share_for_the_loop() -> None:
    config = ablation_config(BASE, ablation("full"), 40)
    assert config.trainer.max_steps == config.trainer.val_check_interval == 40
    assert config.run.checkpoint_every == config.run.picture_every == 40
    own = ablation_config(BASE, ablation("full"), None)
    expected = 40 if own.model.params.warmup_steps >= own.trainer.max_steps else round(40 * WARMUP_SHARE)
    assert config.model.params.warmup_steps == expected
    assert config.model.params.encoders == own.model.params.encoders, "all else is the config's own"


def test_a_warm_up_alone_stays_one_and_a_short_one_stays_short() -> None:
    whole = ["model.params.warmup_steps=900", "trainer.max_steps=900"]
    assert ablation_config(BASE, ablation("full"), 40, whole).model.params.warmup_steps == 40
    little = ["model.params.warmup_steps=5", "trainer.max_steps=900"]
    assert ablation_config(BASE, ablation("full"), 40, little).model.params.warmup_steps == 5
    none = ["model.params.warmup_steps=0", "trainer.max_steps=900"]
    assert ablation_config(BASE, ablation("full"), 40, none).model.params.warmup_steps == 0


@pytest.mark.parametrize(("name", "term"), [("no_cycle", "cycle"), ("no_style", "style"), ("no_perc", "perc"),
                                            ("no_dom", "dom"), ("no_src", "src")])  # fmt: skip
def test_a_row_of_table_five_lacks_its_term_alone(name: str, term: str) -> None:
    full, without = (ablation_config(BASE, ablation(which), None) for which in ("full", name))
    assert without.model.params.loss_weights[term] == 0
    for config in (full, without):
        OmegaConf.update(config, "model.params.loss_weights", {}, merge=False)
    differing = {key for key in full.model.params if full.model.params[key] != without.model.params.get(key)}
    assert differing == set()


def test_a_folder_belongs_to_a_config_and_its_weights(tmp_path: Path) -> None:
    config = ablation_config(BASE, ablation("full"), 8)
    folder = run_folder(tmp_path, "full", config)
    assert folder.parent == tmp_path and folder.name.startswith("full-")
    assert run_folder(tmp_path, "full", ablation_config(BASE, ablation("full"), 8)) == folder
    assert run_folder(tmp_path, "full", ablation_config(BASE, ablation("full"), 9)) != folder
    digests = start_weights(config)
    assert "weights" in digests and all(len(value) == 64 for value in digests.values())


def test_nothing_is_trained_unasked(tmp_path: Path) -> None:
    config = ablation_config(BASE, ablation("full"), 8)
    with pytest.raises(
        ConfigError, match=r"this table compares trainings, and .* is not there; give --train to make it"
    ):
        trained_weights(tmp_path, "full", config, train=False)
    made = run_folder(tmp_path, "full", config) / "weights"
    made.mkdir(parents=True)
    (made / "config.json").touch()
    assert trained_weights(tmp_path, "full", config, train=False) == made


def test_weights_that_are_not_there_and_unread_keys_are_named() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        start_weights(ablation_config(BASE, ablation("full"), 8, ["model.params.weights=nowhere"]))
    with pytest.raises(ConfigError, match="warmup_stepz"):
        ablation_config(BASE, ablation("full"), 8, ["model.params.warmup_stepz=3"])
