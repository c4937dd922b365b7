"""The rows of each table: method, settings, and position on a curve."""

from __future__ import annotations

from typing import NamedTuple

from midms.config import ConfigError
from midms.evaluation import benchmark
from midms.models.translation_gan import GANSettings
from midms.pipelines.settings import Settings
from tables.published import FULL, GAN, ITERATED_GAN, OURS
from tables.sampling import Plan
from tables.tasks import COMPARISONS

#: Names of the axes of tables whose rows are points of a curve.
AXES = {"4": "noise level N / T, %", "7": "U-Net calls N", "rewarp": "re-warps"}
#: Table 3 and 5: row -> config in configs/ablations that trains it.
ABLATIONS: dict[str, dict[str, str]] = {
    "3": {
        FULL: "full",
        "no confidence mask": "no_confidence_mask",
        "one-time matching": "one_time_matching",
        "no diffusion": "no_diffusion",
    },
    "5": {
        FULL: "full",
        "w/o L_cycle": "no_cycle",
        "w/o L_style": "no_style",
        "w/o L_perc": "no_perc",
        "w/o L_dom": "no_dom",
        "w/o L_src": "no_src",
    },
}
#: Rows without a model.
BOUNDS = (
    benchmark.autoencoded_truth,
    benchmark.autoencoded_source,
    benchmark.exemplar_itself,
    benchmark.other_style,
    benchmark.mean_part_colours,
    benchmark.true_latent_warp,
    benchmark.autoencoded_true_warp,
)
_NOISE_LEVELS = (25, 20, 30, 35)  # the paper's best first: differences are taken from the first row
_STEPS = ((200, 50), (100, 25), (16, 4))
_INTERVALS = (1, 2, 4, 8)


class PlannedRow(NamedTuple):
    """A row before it is measured."""

    plan: Plan
    x: float | None = None


def plans(table: str, settings: Settings, truth: bool, steps: int | None = None) -> list[PlannedRow]:
    """The rows of a table.

    Args:
        table: "1", "2", "3", "4", "5", "7", "8", "9", "rewarp", or "bands" and "regions", which have the rows of "3".
        settings: of the full method; a GAN has rows only in `COMPARISONS`.
        truth: whether the true translation is known; otherwise the bounds that need it are left out.
        steps: T of Table 4. None: that of the settings, but at least 20, so that 20 % to 35 % are different N.
    """
    if table in COMPARISONS:
        return _comparison(table, settings, truth)
    if isinstance(settings, GANSettings):
        raise ConfigError(
            f"--table {table}: varies a diffusion, and these weights are a matching_gan; take 1, 2, 8 or 9"
        )
    if table == "4":
        total = max(steps or settings.num_inference_steps, 20)
        return [
            PlannedRow(
                Plan(
                    f"{share} %",
                    benchmark.full_method,
                    settings.replace(num_inference_steps=total, num_interleaved_steps=round(total * share / 100)),
                ),
                share,
            )
            for share in _NOISE_LEVELS
        ]
    if table == "7":
        return [
            PlannedRow(
                Plan(
                    f"T = {total}, N = {calls}",
                    benchmark.full_method,
                    settings.replace(num_inference_steps=total, num_interleaved_steps=calls),
                ),
                calls,
            )
            for total, calls in _STEPS
        ]
    if table == "rewarp":
        chosen = {f"every {k}": settings.replace(rewarp_interval=k) for k in _INTERVALS}
        chosen["never"] = settings.replace(rewarp="none")
        return [PlannedRow(Plan(name, benchmark.full_method, s), len(s.rewarped_steps())) for name, s in chosen.items()]
    if table == "5":
        return [PlannedRow(Plan(name, benchmark.full_method, settings)) for name in ABLATIONS["5"]]
    needs_truth = (
        benchmark.autoencoded_truth,
        benchmark.mean_part_colours,
        benchmark.true_latent_warp,
        benchmark.autoencoded_true_warp,
    )
    methods = {name: m for name, m in benchmark.METHODS.items() if truth or m not in needs_truth}
    return [PlannedRow(Plan(name, method, settings)) for name, method in methods.items()]


def _comparison(table: str, settings: Settings, truth: bool) -> list[PlannedRow]:
    """Rows of Tables 1, 2, 8 and 9: the method and its bounds; for weights of a GAN also its iterated form."""
    methods: dict[str, benchmark.Method] = {}
    if isinstance(settings, GANSettings):
        rows = gan_rows(settings)
    else:
        rows = [PlannedRow(Plan(OURS, benchmark.full_method, settings))]
        methods |= {"one-time matching": benchmark.one_time_matching} if truth else {}
    methods |= {"first warp": benchmark.first_warp, "exemplar itself": benchmark.exemplar_itself}
    if truth:
        methods |= {"mean part colours": benchmark.mean_part_colours, "autoencoded truth": benchmark.autoencoded_truth}
    if table in ("1", "9"):
        methods["photo, autoencoded"] = benchmark.autoencoded_source
    else:
        methods["photo of the condition"] = benchmark.other_style
    return rows + [PlannedRow(Plan(name, method, settings)) for name, method in methods.items()]


def gan_rows(settings: GANSettings) -> list[PlannedRow]:
    """The baseline, and its form that matches and generates once more without training for it (Tables 8 and 9)."""
    again = settings.replace(num_interleaved_steps=settings.num_interleaved_steps + 1)
    return [
        PlannedRow(Plan(GAN, benchmark.full_method, settings)),
        PlannedRow(Plan(ITERATED_GAN, benchmark.full_method, again)),
    ]


def exemplar_counts(plan: Plan) -> bool:
    """Whether a row's images are made from condition and exemplar, so that their diversity is meaningful.

    The bounds that need the truth are left out: crossed pairs have none.
    """
    return plan.method not in BOUNDS or plan.method is benchmark.exemplar_itself
