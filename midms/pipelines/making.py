"""Shared by all programs that make pictures: device, settings of the loop, noise, and the record in the PNG."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from midms.config import ConfigError
from midms.diffusion.settings import InterleaveSettings
from midms.io.provenance import Record
from midms.models.midms import MIDMs
from midms.models.translation_gan import GANSettings
from midms.options import PROTOCOLS
from midms.pipelines.midms import MIDMsPipeline
from midms.pipelines.settings import Settings, gan_settings, protocol_settings

#: Entries of a record that determine a picture. The others describe the machine and software.
DECIDING = (
    "condition_kind", "condition_weights", "condition_size", "size", "inputs", "photo_networks",
    "weights", "weight_files", "seed", "settings", "dtype",
)  # fmt: skip


def usable_device(name: str | None) -> str:
    """The name of an available device. None: cuda if available, else the CPU.

    Raises:
        ConfigError: the device is not available.
    """
    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {chosen}: {str(error).strip().splitlines()[0][:160]}") from None
    return chosen


def load_pipeline(
    weights: str | Path, device: str | None = None, dtype: str = "auto", fast: bool | None = None
) -> MIDMsPipeline:
    """Load a pipeline and configure its device, precision and way of computing, as all programs do.

    Args:
        device: None: cuda if available, else the CPU.
        dtype, fast: see `MIDMsPipeline.configure`.
    Raises:
        ConfigError: the weights or the device cannot be used.
    """
    return MIDMsPipeline.from_pretrained(weights, usable_device(device)).configure(dtype, fast)


def loop_settings(
    pipe: MIDMsPipeline,
    protocol: str = "weights",
    steps: int | None = None,
    calls: int | None = None,
    threshold: float | None = None,
) -> Settings:
    """A protocol's settings with changed numbers.

    Args:
        protocol: one of `midms.options.PROTOCOLS`. "weights": the settings saved with the weights.
        steps: T.
        calls: N. None: T / 4 if T is given, else the protocol's N.
        threshold: gamma of Eq. 10.
    Raises:
        ConfigError: the protocol is unknown, or a number is out of range.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol {protocol!r}: expected one of {', '.join(PROTOCOLS)}")
    if isinstance(pipe.settings, GANSettings):
        return gan_settings(pipe.settings, calls, protocol, steps, threshold)
    assert isinstance(pipe.model, MIDMs)
    limit = pipe.model.schedule.num_train_timesteps
    chosen = protocol_settings(pipe.settings, protocol)
    try:
        settings = chosen.with_steps(steps, calls)
        if threshold is not None:
            settings = settings.replace(threshold=threshold)
    except ValueError as error:
        raise ConfigError(f"--steps, --calls, --threshold: {error}") from None
    if settings.num_inference_steps > limit:
        raise ConfigError(f"--steps {settings.num_inference_steps}: expected at most {limit}")
    return settings


class Computed(NamedTuple):
    """The device, precision and weights that a picture was computed with."""

    device: str
    threads: int  # of the CPU. Another number can change the last bit
    dtype: str  # of first stage and U-Nets
    fast: bool  # see `MIDMsPipeline.fast`
    weight_files: Mapping[str, str]  # name -> digest


def computed_by(pipe: MIDMsPipeline) -> Computed:
    """The device, precision and weights that this pipeline computes with."""
    return Computed(pipe.device.type, torch.get_num_threads(), *pipe.computation, pipe.weight_files)


@dataclass(frozen=True)
class Making:
    """How one picture is made: the source of the record in its PNG and of the command that makes the picture again.

    File names are written as in the command.
    """

    program: str
    weights: str
    settings: Settings
    seed: int
    inputs: Mapping[str, str]  # name of each input file -> its digest
    condition: str | None = None  # None: a pair of the built-in benchmark, which has no command
    condition_kind: str | None = None
    condition_weights: Sequence[str] = ()
    align: bool = True  # whether a photo of a face is rotated and cropped like the training faces
    photo_networks: Mapping[str, str] = field(default_factory=dict)  # of a photo's condition: name -> digest
    condition_size: tuple[int, int] | None = None  # of the photo that the joints come from, (width, height)
    exemplars: Sequence[str] = ()
    exemplar_masks: Sequence[str] = ()
    exemplar_conditions: Sequence[str] = ()
    size: int | None = None  # working size in pixels per side. None: the weights' own
    protocol: str = "weights"
    notes: Sequence[str] = ()  # `midms.pipelines.notes`

    def command(self, computed: Computed, out: str | Path) -> list[str]:
        """The words of the `midms translate` command for the picture, including every number that has a default."""
        if self.condition is None:
            return []
        words = ["midms", "translate", "--condition", self.condition]
        if self.condition_kind:
            words += ["--condition-kind", self.condition_kind]
        if self.condition_weights:
            words += ["--condition-weights", *self.condition_weights]
        if self.condition_size:
            words += ["--condition-size", "x".join(map(str, self.condition_size))]
        if not self.align:
            words.append("--no-align")
        words += ["--exemplar", *self.exemplars]
        if self.exemplar_masks:
            words += ["--exemplar-mask", *self.exemplar_masks]
        if self.exemplar_conditions:
            words += ["--exemplar-condition", *self.exemplar_conditions]
        settings = self.settings
        words += ["--weights", self.weights, "--protocol", self.protocol]
        calls = ["--calls", str(settings.num_interleaved_steps)]
        if isinstance(settings, InterleaveSettings):
            calls = ["--steps", str(settings.num_inference_steps), *calls, "--threshold", repr(settings.threshold)]
        words += [*calls, "--seed", str(self.seed)]
        if self.size is not None:
            words += ["--size", str(self.size)]
        words += ["--device", computed.device, "--dtype", computed.dtype, "--fast" if computed.fast else "--no-fast"]
        return [*words, "--threads", str(computed.threads), "--out", str(out)]

    def record(self, computed: Computed, out: str | Path) -> Record:
        """The record for the PNG, with the same entries for all programs."""
        words = self.command(computed, out)
        return Record(
            program=self.program,
            command=shlex.join(words) if words else None,
            inputs=dict(self.inputs),
            condition_kind=self.condition_kind,
            photo_networks=dict(self.photo_networks),
            condition_weights=list(self.condition_weights),
            condition_size=None if self.condition_size is None else list(self.condition_size),
            size=self.size,
            weights=self.weights,
            protocol=self.protocol,
            settings=asdict(self.settings),
            seed=self.seed,
            notes=list(self.notes),
            **computed._asdict(),
        )


def same_picture(recorded: Mapping[str, Any], record: Record) -> bool:
    """Whether a PNG's record describes the same picture as `record`, on whatever machine the PNG was computed."""
    wanted = record.model_dump(exclude_none=True)
    return all(recorded.get(name) == wanted.get(name) for name in DECIDING)
