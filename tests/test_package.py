"""The package's own names: imported at once, used as the classes they stand for; old module names still work."""

from __future__ import annotations

import importlib
import inspect
import pickle
import subprocess
import sys

import pytest
from programs import ROOT, resolve

import midms
import midms.conditions
from midms._moved import LEFT, MOVED, MovedFinder, install
from midms.diffusion.settings import InterleaveSettings
from midms.oig.pipeline import OIGPipeline
from midms.pipelines.midms import MIDMsPipeline

CLASSES = {"InterleaveSettings": InterleaveSettings, "OIGPipeline": OIGPipeline, "MIDMsPipeline": MIDMsPipeline}
LIGHT = ["from midms import MIDMsPipeline, OIGPipeline, InterleaveSettings", "import midms.__main__"]


@pytest.mark.parametrize("name", CLASSES)
def test_a_lazy_class_is_used_as_the_class(name):
    lazy, real = getattr(midms, name), CLASSES[name]
    assert lazy == real and hash(lazy) == hash(real) and lazy.__wrapped__ is real and dir(lazy) == dir(real)
    assert inspect.signature(lazy) == inspect.signature(real)
    assert issubclass(real, lazy) and not issubclass(int, lazy)
    assert issubclass(type("Mine", (real,), {}), lazy)
    assert (lazy | None) == (real | None) and (None | lazy) == (None | real)
    assert pickle.loads(pickle.dumps(lazy)) == real and real.__name__ in repr(lazy)


def test_objects_of_a_lazy_class_are_of_the_class():
    settings = midms.InterleaveSettings(num_interleaved_steps=3)
    assert type(settings) is InterleaveSettings and isinstance(settings, midms.InterleaveSettings)
    assert midms.InterleaveSettings.released() == InterleaveSettings.released()

    class Mine(midms.InterleaveSettings):
        pass

    assert Mine.__mro__[1] is InterleaveSettings
    with pytest.raises(AttributeError, match="no attribute"):
        _ = midms.InterleaveSettings.nothing


@pytest.mark.parametrize("code", LIGHT)
def test_importing_the_package_takes_no_heavy_library(code):
    heavy = "[n for n in ('torch', 'numpy', 'diffusers', 'omegaconf', 'PIL') if n in sys.modules]"
    command = [sys.executable, "-c", f"import sys\n{code}\nprint({heavy})"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_python_m_midms_is_the_program(arguments):
    command = [sys.executable, "-X", "importtime", "-m", "midms", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"midms {midms.__version__}" if arguments == ["--version"] else "usage: midms")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "midms.cli" in imported and not imported & {"torch", "numpy", "diffusers", "omegaconf"}


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_name_is_the_new_module(old, new, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=rf"{old} is now {new};"):
        module = importlib.import_module(old)
    assert module is importlib.import_module(new) and module.__name__ == new


@pytest.mark.parametrize("old", LEFT)
def test_what_left_the_package_says_where_it_is(old):
    with pytest.raises(ModuleNotFoundError, match=f"{old} has left the package: use .*scripts/"):
        importlib.import_module(old)
    for path in (word for word in LEFT[old].split() if word.startswith("scripts/")):
        assert (ROOT / path).exists()


def test_names_that_documents_of_the_last_version_used():
    with pytest.warns(DeprecationWarning):
        for name in (
            "midms.evaluation.swd.swd_paired_difference",
            "midms.evaluation.style.region_pooled_cosine",
            "midms.evaluation.truth.feature_distance",
            "midms.evaluation.edits.clip_similarity",
            "midms.data.conditions.segmentation.one_hot",
            "midms.images.working_size",
            "midms.conditions.make_condition",
        ):
            for module in MOVED:
                sys.modules.pop(module, None)
            assert callable(resolve(name))
    from midms.conditions import line_drawing, make_condition

    assert make_condition.__module__ == line_drawing.__module__ == "midms.conditions.make"


@pytest.mark.parametrize(("old", "new"), midms.conditions.RENAMED.items())
def test_an_old_class_name_is_the_new_class(old, new):
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new};"):
        assert getattr(midms.conditions, old) is getattr(midms.conditions, new)


def test_the_finder_is_there_once():
    install()
    assert sum(isinstance(finder, MovedFinder) for finder in sys.meta_path) == 1
