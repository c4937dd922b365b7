"""The base class of the training stages: optimiser steps on accumulated, checked and clipped gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from midms.data.module import data_of
from midms.metrics.truth import psnr
from midms.models.matcher import Matcher, Translation
from midms.schema import Count, Positive, Seed
from midms.training.errors import TrainingError
from midms.training.export import TrainedComponents
from midms.training.optimisation import sample_generators

Batch = dict[str, Any]
#: Part of a batch and one generator per sample -> scalars to log, among them "loss", a mean over the part's samples.
Terms = Callable[[Batch, list[torch.Generator]], dict[str, Tensor]]


class Stage(pl.LightningModule):
    """Base class of the training stages. Manual optimisation allows a step without a finite loss to be skipped.

    The random numbers of a sample depend only on the seed, the step, and the sample's place among the samples of all
    ranks. So two ranks with batches of B, one rank with 2B, and one rank with 2B in parts compute the same step.

    Args:
        seed: of the random numbers.
        gradient_clip: largest gradient norm. None: no clipping.
        accumulation: number of parts that a batch is split into. The gradient is that of the whole batch. The memory
            is that of one part.
        channels_last: channels-last memory format, which is faster on tensor cores.

    Attributes:
        max_bad_losses: steps in a row that may be left out before the training stops (`run.max_bad_losses`).
        skipped: steps left out so far because of an infinite or NaN loss or gradient.
    """

    def __init__(
        self,
        seed: Seed,
        gradient_clip: Positive | None = None,
        accumulation: Count = 1,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        if accumulation < 1:
            raise ValueError(f"accumulation: got {accumulation}, expected 1 (the whole batch at once) or more")
        self.automatic_optimization = False
        self.seed, self.gradient_clip, self.accumulation = seed, gradient_clip, accumulation
        self.channels_last = channels_last
        self.max_bad_losses, self.skipped, self.consecutive_bad_losses = 5, 0, 0
        self.validated: dict[str, Tensor] = {}  # name -> (sum, count)

    def setup(self, stage: str) -> None:
        """Exclude the averages from DDP (all ranks compute them). Set the memory format before the optimiser exists."""
        averages = [name for name, _ in self.named_buffers() if name.startswith("average.")]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, averages)
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def generators(self, first: int, count: int, step: int | None = None) -> list[torch.Generator]:
        """One generator each for `count` samples of this rank's batch, from its sample `first` on."""
        step = self.global_step if step is None else step
        places = range(first, first + count)
        return sample_generators(self.seed, step, places, self.global_rank, self.trainer.world_size)

    def validation_generators(self, batch_idx: int, count: int) -> list[torch.Generator]:
        """One generator per sample of a validation batch, the same at every validation on any number of ranks."""
        return self.generators(batch_idx * data_of(self.trainer).batch_size, count, step=-1)

    def add_validation(self, values: dict[str, Tensor], count: int) -> None:
        """Add means over `count` samples to the means of the validation set."""
        for name, value in values.items():
            total = torch.stack([value.detach().double() * count, value.new_tensor(count, dtype=torch.double)])
            self.validated[name] = self.validated[name] + total if name in self.validated else total

    def add_accuracy(self, model: Matcher, translation: Translation, truth: Tensor) -> None:
        """Add the PSNR of the first warp and of the result against the ground truth, (B, 3, H, W)."""
        images = {"psnr_warp": model.decode(translation.first.warp), "psnr": model.decode(translation.latent)}
        self.add_validation({name: psnr(image, truth).mean() for name, image in images.items()}, len(truth))

    def on_validation_epoch_end(self) -> None:
        """Log means over all samples of all ranks. Ranks may differ by one sample."""
        for name, own in self.validated.items():
            total = self._over_ranks(own, "sum")
            self.log(f"val/{name}", (total[0] / total[1]).float(), prog_bar=True)
        self.validated = {}

    def optimise(
        self, optimizer: Any, weights: Iterable[nn.Parameter], batch: Batch, terms_of: Terms
    ) -> dict[str, Tensor] | None:
        """One step of `optimizer` on the mean gradient over the batch and all ranks. None: the step was left out.

        The step is left out, before it touches a weight, when the loss or the gradient norm of any rank is not finite.
        It still counts as a step: its batch is used up.

        Returns:
            Means of the terms over the batch and all ranks, and "grad_norm" before clipping.
        Raises:
            TrainingError: the last `max_bad_losses` steps were all left out. Names the step and the batch's items.
        """
        optimizer.zero_grad()
        total: dict[str, Tensor] = {}
        vectors = [value for name, value in self.named_buffers() if name.endswith(("_u", "_v"))]  # of spectral norms
        before = [vector.clone() for vector in vectors]
        for first, part, share, last in split_batch(batch, self.accumulation):
            for vector, value in zip(vectors, before, strict=True):  # all parts use the first part's vectors
                vector.copy_(value)
            with nullcontext() if last else self._no_gradient_sync():
                terms = terms_of(part, self.generators(first, batch_size(part)))
                self.manual_backward(share * terms["loss"])
            for name, value in terms.items():
                mean = share * value.detach()
                total[name] = total[name] + mean if name in total else mean
        plain = getattr(optimizer, "optimizer", optimizer)  # without Lightning's counting
        self.unscale(plain)
        total["grad_norm"] = nn.utils.clip_grad_norm_(weights, self.gradient_clip or float("inf"))
        total = self._mean_over_ranks(total)
        whole = bool(torch.isfinite(total["loss"] + total["grad_norm"]))
        if whole and self.scaler is None:
            optimizer.step()
        elif whole:
            self.step_scaled(plain)
            self._count_step()
        else:
            self.step_scaled(plain, whole=False)
            optimizer.zero_grad()
            self._skip_step(batch, total)
            self._count_step()
            return None
        self.consecutive_bad_losses = 0
        return total

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """The gradient scaler for float16 (`trainer.precision: 16-mixed`). None: the precision needs no scaling."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients of an optimiser by the scale of the loss, before they are clipped or checked."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step_scaled(self, optimizer: torch.optim.Optimizer, whole: bool = True) -> None:
        """One step on unscaled gradients if they are finite (`whole`), then an update of the scale."""
        if self.scaler is None:
            if whole:
                optimizer.step()
            return
        if whole:
            self.scaler.step(optimizer)
        self.scaler.update()

    def _count_step(self) -> None:
        """Count a step that did not go through Lightning's optimiser."""
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()

    def _skip_step(self, batch: Batch, total: dict[str, Tensor]) -> None:
        """Count a skipped step, and raise after `max_bad_losses` bad ones in a row.

        A step is not bad if only the scaled loss was too large for float16: the next step has a smaller scale.
        """
        self.skipped += 1
        if self.scaler is not None and self.scaler.get_scale() >= 1 and bool(torch.isfinite(total["loss"])):
            return
        self.consecutive_bad_losses += 1
        data = data_of(self.trainer)
        items = ", ".join(data.items_of(batch)[:4])
        values = ", ".join(f"{name} {float(total[name])}" for name in ("loss", "grad_norm"))
        if self.consecutive_bad_losses >= self.max_bad_losses:
            raise TrainingError(
                f"step {self.global_step}: {values} for {self.consecutive_bad_losses} steps in a row, last on {items}; "
                "lower the learning rate, or look at these items"
            )
        if self.trainer.is_global_zero:
            print(f"step {self.global_step}: skipped, {values}, on {items}", flush=True)

    def _no_gradient_sync(self) -> AbstractContextManager[None]:
        """Do not synchronise gradients between ranks: only the last part of a batch does."""
        block = getattr(self.trainer.strategy, "block_backward_sync", nullcontext)
        return block()

    def _mean_over_ranks(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Means of scalars over the ranks, in one all-reduce."""
        if self.trainer.world_size == 1:
            return {name: value.detach() for name, value in values.items()}
        joined = torch.stack([value.detach().float().reshape(()) for value in values.values()])
        return dict(zip(values, self._over_ranks(joined, "mean").unbind(), strict=True))

    def _over_ranks(self, value: Tensor, how: str) -> Tensor:
        """The "sum" or "mean" of a tensor over all ranks."""
        if self.trainer.world_size == 1:
            return value
        reduced = self.trainer.strategy.reduce(value, reduce_op=how)
        return torch.as_tensor(reduced)

    def step_learning_rates(self) -> None:
        """One step of every schedule of the learning rates."""
        schedules: Any = self.lr_schedulers()  # one, or a list of several
        for schedule in schedules if isinstance(schedules, list) else [schedules]:
            schedule.step()

    def pictures(self, batch: Batch) -> list[tuple[str, Tensor]]:
        """Rows of a picture that shows the training's progress: name and images (B, 3, H, W) in [-1, 1]."""
        raise NotImplementedError

    def changes(self) -> dict[int, str]:
        """Steps at which the loss gets other terms, each with a line for the log and the picture."""
        return {}

    def components(self) -> TrainedComponents:
        """Components of an export."""
        raise NotImplementedError

    def log_terms(self, terms: dict[str, Tensor] | None) -> None:
        """Log the terms of a step under "train/", and the number of steps left out so far."""
        self.log_dict({f"train/{name}": value for name, value in (terms or {}).items() if name != "loss"})
        if terms is not None:
            self.log("train/loss", terms["loss"], prog_bar=True)
        self.log("train/skipped", float(self.skipped))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the count of skipped steps."""
        checkpoint["skipped_steps"] = (self.skipped, self.consecutive_bad_losses)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the count of skipped steps."""
        self.skipped, self.consecutive_bad_losses = checkpoint.get("skipped_steps", (0, 0))


def merge_loss_weights(defaults: Mapping[str, float], changes: Mapping[str, float] | None) -> dict[str, float]:
    """The weight of every term: from `changes` if given there, else from `defaults`.

    Raises:
        ValueError: `changes` names a term that `defaults` lacks.
    """
    unknown = set(changes or {}) - set(defaults)
    if unknown:
        raise ValueError(f"loss_weights: unknown {sorted(unknown)}, expected some of {', '.join(defaults)}")
    return {**defaults, **(changes or {})}


def batch_size(batch: Batch) -> int:
    """Number of samples in a batch. All entries of a batch are tensors or lists of that length."""
    return len(next(iter(batch.values())))


def split_batch(batch: Batch, parts: int) -> Iterator[tuple[int, Batch, float, bool]]:
    """At most `parts` parts in order: (index of first sample, part, its share of the batch, whether it is the last)."""
    size = batch_size(batch)
    step = -(-size // parts)
    for first in range(0, size, step):
        part = {key: value[first : first + step] for key, value in batch.items()}
        yield first, part, batch_size(part) / size, first + step >= size
