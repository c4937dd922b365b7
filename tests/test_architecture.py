"""Which room may import which: read from the sources, imports inside functions and for type checkers too.

`docs/architecture.md` draws the floors. A module that breaks a rule here moves, or what it needs moves down.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: From the ground up. A room is a folder or a single module of midms/; it imports only from lower floors and itself.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("_lazy", "_moved", "options", "programs", "schema"),
    ("io",),
    ("settings", "progress"),
    ("config",),
    ("matching",),
    ("diffusion", "losses"),
    ("models", "oig", "visualize"),
    ("metrics",),
    ("conditions",),
    ("data",),
    ("checkpoints",),
    ("evaluation",),
    ("pipelines", "training"),
    ("translate",),
    ("app",),
    ("cli",),
    ("__init__", "__main__"),
)
#: Parts of the library that no program of midms/ calls, but a user's own can, as those of scripts/ do.
LIBRARY = {
    "midms.checkpoints.convert": "foreign checkpoints to folders of weights and back",
    "midms.data.preparation": "condition maps and exemplar lists of a data set",
    "midms.evaluation.benchmark": "a method's scores where the truth is known",
    "midms.evaluation.comparison_report": "several methods on the same pairs",
    "midms.metrics.fixed_features": "a feature network that does not change with the weights",
    "midms.training.curves": "the curves of a finished run",
}
#: Packages beside the programs of scripts/.
PROGRAM_PACKAGES = {"parity", "benchmarks", "sampling", "tables", "others"}

#: Bars of size. Constructors whose arguments are the keys of a config may have more parameters: they are written, with
#: their ranges, in one place, and configs name them.
LONGEST_FUNCTION, LONGEST_FILE, MOST_PARAMETERS = 60, 400, 8
CONSTRUCTORS_OF_CONFIGS = {
    "midms/data/folder.py ImageFolder.__init__",
    "midms/data/pairs.py PairDataset.__init__",
    "midms/models/encoders.py CorrespondenceEncoders.__init__",
    "midms/oig/pipeline.py OIGPipeline.__init__",  # the components in the index of a diffusers folder
    "midms/training/first_stage.py FirstStageTraining.__init__",
    "midms/training/latent_diffusion.py LatentDiffusionTraining.__init__",
    "midms/training/midms.py MIDMsTraining.__init__",
    "midms/training/translation_gan.py MatchingGANTraining.__init__",
}

Graph = Mapping[str, set[str]]


def modules_of(root: Path) -> dict[str, Path]:
    """Dotted name -> file, of every module of midms/ below `root`."""
    files = sorted((root / "midms").rglob("*.py"))
    return {".".join(f.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


def names_imported(file: Path, package: str) -> Iterator[tuple[str, str]]:
    """(module, name or "") of every import statement; relative ones are resolved in `package`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                module = ".".join([*above, module] if module else above)
            yield from ((module, alias.name) for alias in node.names)


def imports_of(file: Path, name: str, modules: Mapping[str, Path]) -> set[str]:
    """The modules of midms/ that a file imports; the version, which the root package holds, is not counted."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    imported = set()
    for module, attribute in names_imported(file, package):
        if module.split(".")[0] != "midms" or (module, attribute) == ("midms", "__version__"):
            continue
        full = f"{module}.{attribute}"
        imported.add(full if full in modules else module)
    return imported - {name}


def graph_of(root: Path) -> dict[str, set[str]]:
    """Module -> the modules of midms/ that it imports."""
    modules = modules_of(root)
    return {name: imports_of(file, name, modules) for name, file in modules.items()}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def floor(module: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room(module) in rooms:
            return number
    raise AssertionError(f"{module}: its room is on no floor; add it to FLOORS and to docs/architecture.md")


def arrows_up(graph: Graph) -> list[str]:
    """Imports that do not run down: from a room to another one on the same floor or above."""
    return [
        f"{source} -> {target}"
        for source, targets in sorted(graph.items())
        for target in sorted(targets)
        if room(source) != room(target) and floor(target) >= floor(source)
    ]


def cycle(graph: Graph) -> list[str]:
    """Some circle of imports, its first node again at the end; empty where there is none."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in sorted(graph.get(node, ())):
            circle = visit(target, [*path, node])
            if circle:
                return circle
        done.add(node)
        return []

    return next(filter(None, (visit(node, []) for node in sorted(graph))), [])


def rooms_graph(graph: Graph) -> dict[str, set[str]]:
    """Room -> the other rooms that it imports."""
    rooms: dict[str, set[str]] = {room(module): set() for module in graph}
    for source, targets in graph.items():
        rooms[room(source)] |= {room(target) for target in targets} - {room(source)}
    return rooms


def entry_points(root: Path) -> set[str]:
    """What is run or named: the root package, programs (`python -m`), main.py's imports, targets of configs."""
    modules = modules_of(root)
    entries = {"midms"} | imports_of(root / "main.py", "main", modules)
    entries |= {n for n, f in modules.items() if '\nif __name__ == "__main__":\n' in f.read_text(encoding="utf-8")}
    for config in (root / "configs").rglob("*.yaml"):
        for target in re.findall(r"\btarget: *(midms[\w.]+)", config.read_text(encoding="utf-8")):
            entries.add(target.rpartition(".")[0])
    return entries


def reached(graph: Graph, starts: set[str]) -> set[str]:
    """All modules that the starts import, at any distance, and the packages they are in."""
    reached_names: set[str] = set()
    waiting = [*starts]
    while waiting:
        module = waiting.pop()
        if module and module not in reached_names:
            reached_names.add(module)
            waiting += [*graph.get(module, ()), module.rpartition(".")[0]]
    return reached_names


def unreached(root: Path, library: set[str]) -> list[str]:
    """Modules of midms/ that only scripts/ and tests/ reach; empty packages are not counted."""
    graph = graph_of(root)
    known = reached(graph, entry_points(root) | library)
    return sorted(n for n, file in modules_of(root).items() if n not in known and file.stat().st_size)


def functions_of(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of a module with its name, which starts with its class's; functions in functions too."""
    for owner in ast.walk(tree):
        prefix = f"{owner.name}." if isinstance(owner, ast.ClassDef) else ""
        for node in ast.iter_child_nodes(owner):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + node.name, node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many parameters a caller can give: those by keyword only, `*args` and `**kwargs` count, `self` does not."""
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    starred = [star for star in (arguments.vararg, arguments.kwarg) if star is not None]
    return len(names) + len(starred) - (names[:1] in (["self"], ["cls"]))


def too_large(root: Path) -> tuple[list[str], set[str]]:
    """Files and functions above the bars of length, and functions above the bar of parameters."""
    long: list[str] = []
    wide: set[str] = set()
    for file in [
        root / "main.py",
        *(f for folder in ("midms", "scripts", "tests") for f in root.glob(f"{folder}/**/*.py")),
    ]:
        text, place = file.read_text(encoding="utf-8"), file.relative_to(root).as_posix()
        if text.count("\n") > LONGEST_FILE:
            long.append(place)
        for name, node in functions_of(ast.parse(text)):
            if (node.end_lineno or node.lineno) - node.lineno >= LONGEST_FUNCTION:
                long.append(f"{place} {name}")
            if parameters(node) > MOST_PARAMETERS:
                wide.add(f"{place} {name}")
    return long, wide


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The package, its configs and main.py, to be changed."""
    shutil.copytree(ROOT / "midms", tmp_path / "midms", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copy(ROOT / "main.py", tmp_path)
    return tmp_path


def test_every_import_runs_down() -> None:
    assert arrows_up(graph_of(ROOT)) == []


def test_no_circle_of_modules_or_rooms() -> None:
    graph = graph_of(ROOT)
    assert cycle(graph) == [] and cycle(rooms_graph(graph)) == []


def test_every_module_is_used_by_the_package() -> None:
    assert unreached(ROOT, set(LIBRARY)) == []


def test_the_list_of_library_modules_is_short_and_needed() -> None:
    rest = {name: unreached(ROOT, set(LIBRARY) - {name}) for name in LIBRARY}
    assert all(name in rest[name] for name in LIBRARY), "listed without need"


def test_the_package_imports_nothing_of_the_programs() -> None:
    for name, file in modules_of(ROOT).items():
        assert not {module.split(".")[0] for module, _ in names_imported(file, name)} & PROGRAM_PACKAGES, name


def test_every_floor_exists() -> None:
    rooms = {room(module) for module in modules_of(ROOT)}
    assert rooms == {name for rooms_of_floor in FLOORS for name in rooms_of_floor}


def test_files_functions_and_parameter_lists_are_short() -> None:
    assert too_large(ROOT) == ([], CONSTRUCTORS_OF_CONFIGS)


def test_a_large_file_or_function_is_noticed(copied: Path) -> None:
    body = "\n".join(["    pass"] * (LONGEST_FUNCTION - 1))
    names = ", ".join(f"n{i}" for i in range(MOST_PARAMETERS))
    (copied / "midms" / "at_the_bars.py").write_text(
        f"def long():\n{body}\n\n\nclass C:\n    def wide(self, {names}):\n        pass\n" + "#\n" * 334
    )
    assert too_large(copied) == ([], CONSTRUCTORS_OF_CONFIGS)
    (copied / "midms" / "above.py").write_text(
        f"def long():\n{body}\n    pass\n\n\nclass C:\n    def wide(self, *, {names}, **more):\n        pass\n"
        + "#\n" * 400
    )
    long, wide = too_large(copied)
    assert long == ["midms/above.py", "midms/above.py long"]
    assert wide - CONSTRUCTORS_OF_CONFIGS == {"midms/above.py C.wide"}


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        (
            "models/denoiser.py",
            "from midms.checkpoints.folder import load_folder",
            "midms.models.denoiser -> midms.chec",
        ),
        ("visualize.py", "def late():\n    from midms.data import pairs", "midms.visualize -> midms.data.pairs"),
        ("evaluation/rows.py", "import midms.training.run", "midms.evaluation.rows -> midms.training.run"),
        ("matching/streaming.py", "from ..models import midms", "midms.matching.streaming -> midms.models.midms"),
        ("config.py", "from midms import MIDMsPipeline", "midms.config -> midms"),
        (
            "losses/matching.py",
            "if 0:\n    from midms.diffusion import schedule",
            "midms.losses.matching -> midms.diff",
        ),
    ],
)
def test_an_arrow_up_is_noticed(copied: Path, file: str, line: str, expected: str) -> None:
    changed = copied / "midms" / file
    assert arrows_up(graph_of(copied)) == []
    changed.write_text(f"{changed.read_text(encoding='utf-8')}\n\n{line}\n", encoding="utf-8")
    (arrow,) = arrows_up(graph_of(copied))
    assert arrow.startswith(expected)


def test_a_circle_is_noticed(copied: Path) -> None:
    changed = copied / "midms" / "matching" / "streaming.py"
    changed.write_text(
        f"from midms.matching import confidence\n{changed.read_text(encoding='utf-8')}", encoding="utf-8"
    )
    circle = cycle(graph_of(copied))
    assert circle[0] == circle[-1] and {"midms.matching.streaming", "midms.matching.confidence"} <= set(circle)
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert cycle(rooms_graph({"midms.a.x": {"midms.b.x"}, "midms.b.y": {"midms.a.y"}})) == ["a", "b", "a"]


def test_a_module_that_only_scripts_reach_is_noticed(copied: Path) -> None:
    (copied / "midms" / "metrics" / "extra.py").write_text('"""Of no use here."""\n', encoding="utf-8")
    assert unreached(copied, set(LIBRARY)) == ["midms.metrics.extra"]


def test_a_room_on_no_floor_is_noticed() -> None:
    with pytest.raises(AssertionError, match="on no floor"):
        arrows_up({"midms.attic.box": {"midms.config"}})
