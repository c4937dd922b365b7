"""The tasks of the built-in benchmark, with their shipped weights and configs, for all programs that need these."""

from __future__ import annotations

from typing import NamedTuple


class Task(NamedTuple):
    """One task.

    Attributes:
        weights: shipped ones.
        config: of the training of these weights, below the project's folder.
        published_on: data set of the paper's numbers that its tables show, "" for none.
        gan: weights of the baseline that matches once. Where they are not shipped yet, tables have empty rows that say
            so.
        gan_bases: configs in configs/baselines that train the baseline.
    """

    weights: str
    config: str
    published_on: str
    gan: str
    gan_bases: tuple[str, ...]


TASKS = {
    "faces": Task("demo", "configs/demo.yaml", "CelebA-HQ", "demo-gan", ("matching_gan",)),
    "figures": Task("demo-figures", "configs/demo_figures.yaml", "DeepFashion", "demo-figures-gan",
                    ("matching_gan", "matching_gan_figures")),
    "churches": Task("demo-churches", "configs/demo_churches.yaml", "", "demo-churches-gan",
                     ("matching_gan", "matching_gan_churches")),
}  # fmt: skip
