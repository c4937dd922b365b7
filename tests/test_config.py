"""Configs: merged in order, every key checked, one line for a mistake."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from midms.config import SHORT, TARGETS, ConfigError, check, instantiate, load_config, locate
from midms.schema import parameters_of

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


#: Overlay -> what it is laid over, below configs/.
LAID_OVER = {
    "released.yaml": ["celeba.yaml"],
    "small.yaml": ["celeba.yaml"],
    "demo128_from_scratch.yaml": ["demo128_faces.yaml", "demo128_short.yaml"],
    "demo_warmup.yaml": ["demo.yaml"],
    "demo_end_to_end.yaml": ["demo.yaml"],
    "demo_small_rate.yaml": ["demo.yaml", "demo_end_to_end.yaml"],
    "ldm/demo_low_noise.yaml": ["ldm/demo.yaml"],
    "first_stage/demo128_start.yaml": ["first_stage/demo128_faces.yaml"],
    "baselines/matching_gan_figures.yaml": ["baselines/matching_gan.yaml"],
    "baselines/matching_gan_churches.yaml": ["baselines/matching_gan.yaml"],
    **{
        f"demo128_{name}.yaml": ["demo128_faces.yaml"]
        for name in ("figures", "churches", "start", "colours", "end_to_end", "short")
    },
    **{f"ldm/demo128_{task}.yaml": ["ldm/demo128_faces.yaml"] for task in ("figures", "churches")},
    **{f"ablations/{path.name}": ["demo.yaml"] for path in (ROOT / "configs/ablations").glob("*.yaml")},
}


def base(path: Path) -> list[Path]:
    """What an overlay is laid over; nothing for a whole config."""
    return [ROOT / "configs" / name for name in LAID_OVER.get(str(path.relative_to(ROOT / "configs")), [])]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_config_passes_the_check(path):
    check(load_config([*base(path), path]))


def test_files_merge_left_to_right_then_overrides():
    config = load_config([ROOT / "configs/demo.yaml", ROOT / "configs/demo_warmup.yaml"], ["trainer.max_steps=7"])
    check(config)
    assert config.run.name == "demo_warmup" and config.trainer.max_steps == 7
    assert config.model.params.encoders.out_channels == 64


@pytest.mark.parametrize("task", ["faces", "figures", "churches"])
def test_each_task_at_128_pixels_has_its_own_runs(task):
    """What a stage starts from is what the stage before it writes, for the same task."""
    stage_three = [ROOT / f"configs/demo128_{name}.yaml" for name in dict.fromkeys(["faces", task])]
    stage_two = [path.parent / "ldm" / path.name for path in stage_three]
    overlays = [ROOT / f"configs/demo128_{name}.yaml" for name in ("start", "colours", "end_to_end")]
    ldm, start, middle, *further = (
        load_config(files)
        for files in (stage_two, [*stage_three, overlays[0]], stage_three, *([*stage_three, o] for o in overlays[1:]))
    )
    assert ldm.model.params.first_stage == f"data/first_stages_128/{task}"
    assert {config.model.params.weights for config in (start, middle, *further)} == {f"runs/{ldm.run.name}/weights"}
    assert start.model.params.encoders_from is None
    assert middle.model.params.encoders_from == f"runs/{start.run.name}/weights"
    assert {config.model.params.encoders_from for config in further} == {f"runs/{middle.run.name}/weights"}
    for config in (ldm, start, middle, *further):
        assert f"_{task}_" in config.run.name
        assert config.data.params.train.params.dataset.params.task == config.data.params.validation.params.task == task


def test_another_target_drops_the_params_of_the_old_one(tmp_path):
    """In a file and on the command line, in any order there; the same target by its short name keeps them."""
    (tmp_path / "photos.yaml").write_text(
        "data: {params: {train: {target: midms.data.folder.ImageFolder, params: {root: mine, condition: edges}}}}\n"
    )
    (tmp_path / "same.yaml").write_text("data: {params: {train: {target: midms.data.ImageFolder}}}\n")
    config = load_config([ROOT / "configs/demo.yaml", tmp_path / "photos.yaml", tmp_path / "same.yaml"])
    assert config.data.params.train.params == {"root": "mine", "condition": "edges"}
    assert config.data.params.validation.params.task == "faces" and config.model.params.weights == "demo-64"
    check(config)
    words = ["root=mine", "condition=edges", "target=midms.data.ImageFolder"]
    for order in (words, words[::-1]):
        overrides = [f"data.params.train.{'' if 'target' in word else 'params.'}{word}" for word in order]
        config = load_config([DEMO], overrides)
        assert config.data.params.train.params == {"root": "mine", "condition": "edges"}
        check(config)


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
    with pytest.raises(ConfigError, match="no such file"):
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


DEMO = ROOT / "configs/demo.yaml"
DRAWN = "midms.data.procedural.dataset.ProceduralImages"


def test_every_target_is_a_class_defined_where_its_name_says():
    """And all of its annotations can be read."""
    for name in TARGETS:
        found = locate(name)
        assert isinstance(found, type) and found.__module__ == name.rpartition(".")[0], name
        assert all(annotation is not Any for annotation, _ in parameters_of(found).values()), name
    assert all(name.rpartition(".")[2] == full.rpartition(".")[2] for name, full in SHORT.items())


@pytest.mark.parametrize(
    "target",
    [
        "midms_evil.f", "midmsevil", "midms", "midms.", "midms.app.page.rmtree", "midms.pipelines.midms.push_folder",
        "midms.config.OmegaConf", "midms.app.__main__.main", "midms.app.page.shutil.rmtree", "os.system", "", None, 3,
        ["midms.data.module.DataModule"], {"a": 1}, "midms.training.midms.MIDMsTraining\n", "midms..data",
        "\x1b]0;x\x07", "midms.data.module.DataModule.__init__", "midms.training.run.train",
    ],
)  # fmt: skip
def test_no_other_name_is_imported_or_called(target, tmp_path, monkeypatch):
    """The name is checked first, wherever the node is; a marker tells whether anything ran."""
    for name in ("midms_evil", "midmsevil"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nf = print\n")
    victim = tmp_path / "victim"
    victim.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    node = {"target": target, "params": {"path": str(victim), "ignore_errors": True}}
    before = set(sys.modules)
    for path in ("data.params.train", "data.params.validation", "model", "data", "model.params.features"):
        config = load_config([DEMO])
        OmegaConf.update(config, path, node, merge=False)
        with pytest.raises(ConfigError) as caught:
            check(config)
        assert str(caught.value).isprintable()
        with pytest.raises(ConfigError):
            instantiate(node)
    assert victim.is_dir() and not (tmp_path / "ran").exists()
    assert not {name for name in set(sys.modules) - before if name.startswith(("midmsevil", "midms_evil", "midms.app"))}


def test_a_target_of_another_kind_does_not_belong():
    for path, target, message in [
        ("model", DRAWN, "is a data set, expected a stage"),
        ("data", DRAWN, "expected a data module"),
        ("data.params.train", "midms.losses.perceptual.VGG19Features", "does not belong here"),
        ("model.params.learning_rate", DRAWN, "does not belong here"),
        ("model.params.encoders", DRAWN, "does not belong here"),
    ]:
        config = load_config([DEMO])
        OmegaConf.update(config, path, {"target": target}, merge=False)
        with pytest.raises(ConfigError, match=message):
            check(config)


@pytest.mark.parametrize("value", ["${oc.env:SECRET}", "${oc.env:HOME,x}", "${oc.decode:'1'}", "${${run.root}:SECRET}",
                                   "a${oc.env:SECRET}b", "\\${oc.env:SECRET}", "${oc.create:{a:1}}"])  # fmt: skip
def test_the_environment_is_not_read(value, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    (tmp_path / "x.yaml").write_text(OmegaConf.to_yaml({"run": {"name": value, "root": "oc.env"}}))
    with pytest.raises(ConfigError, match="expected a value or the name of another key") as caught:
        load_config([tmp_path / "x.yaml"])
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="the environment is not read") as caught:
        load_config([DEMO], ["run.name='{}'".format(value.replace("'", "''"))])
    assert "hunter2" not in str(caught.value)


def test_interpolations_of_keys_are_resolved_and_circles_told(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("run: {seed: 7, name: 'a${run.seed}'}\nmodel: {params: {seed: '${run.seed}'}}\n")
    config = load_config([file])
    assert config.run.name == "a7" and config.model.params.seed == 7
    for text in ("a: ${b}\nb: ${a}\n", "a: ${a}\n", "a: {b: '${a}'}\n", "a: ${none}\n", "a: ${.a}\n"):
        file.write_text(text)
        with pytest.raises(ConfigError):
            load_config([file])


BOMBS = {
    "deep list": "a: " + "[" * 50_000,
    "deep mapping": "a: " + "{a: " * 50_000,
    "deep block": "\n".join(" " * n + "a:" for n in range(400)),
    "large": "a: " + "x" * 2_000_000,
    "many": "a: [" + "1, " * 100_000 + "1]",
    "laughs": "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    + "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise("abcdefghij")),
    "itself": "a: &a [*a]",
    "bytes": "a: \x00",
    "two": "a: 1\n---\na: 2\n",
    "python": "a: !!python/object/apply:os.system ['touch ran']",
    "key": "? [1, 2]\n: 3\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_that_is_no_config(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(BOMBS[name])
    with pytest.raises(ConfigError) as caught:
        check(load_config([tmp_path / "x.yaml"]))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert not (tmp_path / "ran").exists()


#: override -> a part of the message; no override may be taken, and none may give a traceback.
WRONG = {
    "model.params.gradient_clip=-1": "expected a number > 0, or null",
    "model.params.ema_decay=1.5": "expected a number >= 0 and <= 1",
    "model.params.learning_rate=-1e-4": "expected a number >= 0",
    "model.params.learning_rate=nan": "expected a number >= 0",
    "model.params.weight_decay=-1": "expected a number >= 0",
    "model.params.warmup_steps=-1": "expected a whole number >= 0",
    "model.params.gamma=-0.3": "expected a number",
    "model.params.milestones=[x]": "expected a list",
    "model.params.temperature=0": "expected a number > 0",
    "model.params.accumulation=0": "expected a whole number >= 1",
    "model.params.seed=-1": "expected a whole number",
    "model.params.encoders.widths=x": "expected a list",
    "model.params.encoders.hidden=1000000000": "<= 16384",
    "model.params.encoders.form=papre": "expected one of released, paper",
    "model.params.interleave.refine_eta=1.5": "expected a number >= 0 and <= 1",
    "model.params.interleave.treshold=1": "did you mean 'threshold'",
    "model.params.schedule.start=x": "expected a number",
    "model.params.loss_weights.dom=-1": "expected a mapping to a number >= 0",
    "data.params.batch_size=0": "expected a whole number >= 1",
    "data.params.batch_size=-3": "expected a whole number >= 1",
    "data.params.batch_size=2.5": "expected a whole number >= 1",
    "data.params.batch_size=x": "expected a whole number >= 1",
    "data.params.num_workers=-1": "expected a whole number >= 0",
    "data.params.train.params.length=0": "expected a whole number >= 1",
    "data.params.train.params.split=trian": "expected one of train, val, test",
    "data.params.train.params.size=0": "expected a whole number",
    "data.params.train.params.seed=-1": "expected a whole number",
    "run.seed=null": "expected a whole number",
    "run.seed=x": "expected a whole number",
    "run.seed=-1": "expected a whole number",
    "run.name=on": "expected printable text",
    "run.name=''": "expected printable text",
    "run.keep=0": "expected a whole number >= 1, or null",
    "run.log_every=-1": "expected a whole number >= 0, or null",
    "run.picture_every=-1": "expected a whole number >= 0, or null",
    "run.checkpoint_every=x": "expected a whole number >= 0, or null",
    "run.max_bad_losses=0": "expected a whole number >= 1",
    "run.export=2": "expected true or false",
    "run=3": "expected a mapping",
    "trainer.max_steps=2e0": "expected a whole number >= 1",
    "trainer.max_steps=x": "expected a whole number >= 1",
    "trainer.max_steps=null": "expected a whole number >= 1",
    "trainer.max_steps=0": "expected a whole number >= 1",
    "trainer.precision=fp8": "expected one of 32-true",
    "trainer.val_check_interval=-1": "expected a whole number >= 0",
    "trainer.devices=x": "expected a whole number",
    "trainer.accelerator=gup": "expected one of auto, cpu, gpu",
    "trainer.strategy=fsdp": "expected one of auto, ddp",
    "trainer.logger=false": "unknown key trainer.logger",
    "trainer.callbacks=[x]": "unknown key trainer.callbacks",
    "trainer=3": "expected a mapping",
    "model=3": "expected a node with the target of a stage",
    "data.params=3": "expected a mapping",
    "model.params.features=3": "expected a node with the target of a Module",
    "run.name=[": "expected key.path=value",
    "run..name=x": "unknown key",
    "=x": "unknown key",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_value_is_told_with_what_was_expected(override):
    with pytest.raises(ConfigError) as caught:
        check(load_config([DEMO], [override]))
    message = str(caught.value)
    assert WRONG[override] in message and message.isprintable() and len(message) < 600, message


@pytest.mark.parametrize("value", ["0", "null"])
def test_off_is_written_in_one_way(value):
    keys = ("run.picture_every", "run.checkpoint_every", "run.log_every", "trainer.val_check_interval")
    check(load_config([DEMO], [f"{key}={value}" for key in keys]))


def test_whatever_a_constructor_raises_is_one_line():
    """Sizes that are allowed one by one and fit no network."""
    with pytest.raises(ConfigError, match=r"FirstStageTraining: .*"):
        instantiate({"target": "midms.training.first_stage.FirstStageTraining",
                     "params": {"first_stage": {"ch": 8, "norm_groups": 3}}})  # fmt: skip
