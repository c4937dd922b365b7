"""The `run` and `trainer` blocks of a training config: every key with its type, range, default and purpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from midms.schema import Count, Doc, Natural, Seed, Share, Text

#: Lightning's names of the devices and precisions that the training stages support.
Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]
Precision = Literal["32-true", "32", "bf16-mixed", "bf16", "16-mixed", "16", "64-true", "64", 32, 16, 64]
Strategy = Literal["auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false"]
#: A number of batches, or a fraction of all batches.
Batches = Natural | Share


@dataclass(frozen=True)
class RunSettings:
    """Keys of `run`. Where a key counts steps, 0 and null both mean never."""

    name: Annotated[Text, Doc("folder of the run below root, and the name of its weights")] = "midms"
    root: Annotated[Text, Doc("folder of all runs")] = "runs"
    seed: Annotated[Seed, Doc("seed of the global random generators")] = 0
    checkpoint_every: Annotated[Natural | None, Doc("steps between checkpoints; one more is written at the end")] = 1000
    keep: Annotated[Count | None, Doc("how many of the latest checkpoints to keep; null: all")] = 2
    picture_every: Annotated[Natural | None, Doc("steps between pictures of the first validation samples")] = 500
    log_every: Annotated[Natural | None, Doc("steps between rows of metrics.csv")] = 20
    max_bad_losses: Annotated[
        Count, Doc("the training stops after so many consecutive steps without a finite loss")
    ] = 5
    wandb: Annotated[Text | None, Doc("project of Weights & Biases; null: not used")] = None
    export: Annotated[bool, Doc("write weights/ at the end")] = True


@dataclass(frozen=True)
class TrainerSettings:
    """Keys of `trainer`, which are passed to Lightning's trainer. The program sets the trainer's other arguments."""

    max_steps: Annotated[Count, Doc("steps of the whole training, including those before a resume")]
    accelerator: Annotated[Accelerator, Doc("kind of device")] = "auto"
    devices: Annotated[
        Annotated[int, Interval(ge=-1, le=4096)] | list[Natural] | Literal["auto"],
        Doc("how many devices, a list of their numbers, or -1 for all"),
    ] = "auto"
    num_nodes: Annotated[Count, Doc("machines")] = 1
    strategy: Annotated[Strategy, Doc("strategy of training on several devices")] = "auto"
    precision: Annotated[Precision | None, Doc("number format of weights and activations; null: 32-true")] = None
    val_check_interval: Annotated[
        Natural | Annotated[float, Interval(gt=0, le=1)] | None,
        Doc("steps between validations, or a part of the training; 0 or null: no validation"),
    ] = 1.0
    limit_val_batches: Annotated[Batches | None, Doc("batches of a validation, or a part of them; null: all")] = None
    sync_batchnorm: Annotated[bool, Doc("synchronise batch norm over devices")] = False
    benchmark: Annotated[bool | None, Doc("let cuDNN choose the fastest kernels by trials")] = None
    deterministic: Annotated[bool | Literal["warn"] | None, Doc("only deterministic kernels, or a warning")] = None
    detect_anomaly: Annotated[bool, Doc("find the operation that produced a NaN (slow)")] = False
    enable_progress_bar: Annotated[bool | None, Doc("show a progress bar")] = None
    profiler: Annotated[Literal["simple", "advanced", "pytorch"] | None, Doc("Lightning's profilers")] = None
    max_time: Annotated[Text | None, Doc("stop after days:hours:minutes:seconds, as in 00:12:00:00")] = None
