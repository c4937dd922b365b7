"""The baseline in the tables that compare methods: its weights, its rows, and what stands there without weights."""

from __future__ import annotations

from midms.checkpoints.loading import open_weights
from midms.config import ConfigError
from midms.evaluation.tables import Row, Table
from midms.io.provenance import shipped_names
from midms.models.translation_gan import GANSettings, MatchingGAN
from tables.measure import check_task
from tables.published import GAN, ITERATED_GAN
from tables.rows import PlannedRow, gan_rows
from tables.tasks import TASKS


def gan_weights(benchmark: str | None, given: str | None, weights: str, size: int | None) -> str | None:
    """The weights of the baseline to compare with; None: nothing was given and nothing shipped fits.

    Args:
        benchmark: task of the built-in benchmark. None: pairs of a config, for which nothing is shipped.
        given: --gan.
        weights: of the method.
        size: pictures' side that these are made for. None: not recorded.
    Raises:
        ConfigError: the given weights are made for another size.
    """
    shipped = TASKS[benchmark].gan if benchmark else ""
    found = given or (shipped if shipped in shipped_names() else None)
    own = open_weights(found).info.get("size") if found else None
    if None in (own, size) or own == size:
        return found
    if given:
        raise ConfigError(
            f"--gan: {given} is made for {own} pixels, but --weights {weights} for {size}; give two of one size"
        )
    return None


def rows_of_gan(benchmark: str | None, weights: str) -> list[tuple[PlannedRow, str]]:
    """The baseline and its iterated form, with their weights.

    Raises:
        ConfigError: the weights are of another method or task.
    """
    info = open_weights(weights).info
    if info.get("kind") != MatchingGAN.kind:
        raise ConfigError(f"--gan: {weights} are weights of {info.get('kind', 'midms')}, expected {MatchingGAN.kind}")
    if benchmark:
        check_task(info, benchmark, weights)
    return [(row, weights) for row in gan_rows(GANSettings(**info.get("settings", {})))]


def note_absent_gan(benchmark: str, weights: str, table: Table) -> None:
    """Add empty rows of the baseline to a table, and how to fill them.

    Args:
        weights: of the method.
    """
    task = TASKS[benchmark]
    if task.gan in shipped_names():
        state = "of another size"
        remedy = f"{task.gan} is made for another size than {weights}; compare with --weights {task.beside_gan}"
    else:
        state = "not shipped yet"
        bases = " ".join(f"configs/baselines/{name}.yaml" for name in task.gan_bases)
        remedy = (
            f"its weights are not shipped yet; train them with python main.py --base {bases} -t, then give "
            f"--gan runs/{task.gan_bases[-1]}/weights"
        )
    table.rows[1:1] = [Row(f"{name} ({state})") for name in (GAN, ITERATED_GAN)]
    table.notes.append(f"{GAN}: {remedy}")
