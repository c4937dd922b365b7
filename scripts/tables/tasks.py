"""The tasks of the built-in benchmark, with their shipped weights and configs, for all programs that need these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Task(NamedTuple):
    """One task.

    Attributes:
        weights: shipped ones.
        configs: of the training of these weights, merged left to right, below the project's folder.
        published_on: data set of the paper's numbers that its tables show, "" for none.
        gan: weights of the baseline that matches once. Where they are not shipped yet, tables have empty rows that say
            so.
        beside_gan: shipped weights to compare with the baseline, made for pictures of its size.
        gan_bases: configs in configs/baselines that train the baseline.
        joint: config that, laid over `configs`, trains encoders and denoiser together through the loop.
        short: configs that, laid over `configs`, train for some minutes, from encoders of an earlier stretch.
        scratch: configs that, laid over `short`, train random encoders instead.
    """

    weights: str
    configs: tuple[str, ...]
    published_on: str
    gan: str
    beside_gan: str
    gan_bases: tuple[str, ...]
    joint: str = "configs/demo128_end_to_end.yaml"
    short: tuple[str, ...] = ("configs/demo128_short.yaml",)
    scratch: tuple[str, ...] = ("configs/demo128_from_scratch.yaml",)


#: Tables that compare methods.
COMPARISONS = ("1", "2", "8", "9")

TASKS = {
    "faces": Task("demo", ("configs/demo128_faces.yaml",), "CelebA-HQ", "demo-gan", "demo-64", ("matching_gan",)),
    "figures": Task("demo-figures", ("configs/demo128_faces.yaml", "configs/demo128_figures.yaml"), "DeepFashion",
                    "demo-figures-gan", "demo-figures", ("matching_gan", "matching_gan_figures")),
    "churches": Task("demo-churches", ("configs/demo128_faces.yaml", "configs/demo128_churches.yaml"), "",
                     "demo-churches-gan", "demo-churches", ("matching_gan", "matching_gan_churches")),
}  # fmt: skip

#: Shipped weights of another size -> their task, with the configs of their own training.
_SMALLER = {
    "demo-64": TASKS["faces"]._replace(
        weights="demo-64",
        configs=("configs/demo.yaml",),
        joint="configs/demo_end_to_end.yaml",
        short=(),
        scratch=(),
    )
}


def task_of(benchmark: str, weights: str) -> Task:
    """The task of a benchmark, with the configs that fit the weights where these are shipped at another size."""
    return _SMALLER.get(weights, TASKS[benchmark])


def default_weights(benchmark: str, tables: Sequence[str]) -> str:
    """The shipped weights that a run takes: those made for the baseline's size if it only compares methods."""
    task = TASKS[benchmark]
    return task.beside_gan if set(tables) <= set(COMPARISONS) else task.weights
