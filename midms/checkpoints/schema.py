"""What `config.json` of a folder of weights may say: names, types and ranges in one declaration.

A folder can come from a stranger, so sizes are bounded before any network is built from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from midms.checkpoints.errors import CheckpointError
from midms.diffusion.settings import InterleaveSettings
from midms.models.spade import PaddingMode

FORMAT, VERSION = "midms", 1
MAX_WIDTH, MAX_LEVELS = 16_384, 12

Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
Widths = Annotated[list[Width], Field(min_length=1, max_length=MAX_LEVELS)]
Blocks = Annotated[int, Field(ge=1, le=32)]
Multiples = Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1, max_length=MAX_LEVELS)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class _Model(BaseModel):
    """Types as they stand (1 is no 1.5 and "1" no 1), no NaN or Infinity, no other keys."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class FirstStageConfig(_Model):
    """Keys of `midms.models.first_stage.DEFAULTS`."""

    def least_parameters(self) -> int:
        """A lower bound: the second convolution of each residual block of the encoder, and the codes."""
        codes = self.n_embed * (self.embed_dim or self.z_channels) if self.kind == "vq" else 0
        return codes + sum(9 * self.num_res_blocks * (self.ch * multiple) ** 2 for multiple in self.ch_mult)

    kind: Literal["vq", "kl"] = "vq"
    in_channels: Width = 3
    out_ch: Width = 3
    ch: Width = 128
    ch_mult: Multiples = [1, 2, 4]
    num_res_blocks: Blocks = 2
    z_channels: Width = 3
    embed_dim: Width | None = None
    n_embed: Annotated[int, Field(ge=1, le=2**20)] = 8192
    norm_groups: Width = 32
    mid_attention: bool = True
    scale_factor: Positive = 1.0


class DenoiserConfig(_Model):
    """Keys of `midms.models.denoiser.DEFAULTS`."""

    def least_parameters(self) -> int:
        """A lower bound: the second convolution of each residual block on the way down."""
        return sum(9 * self.num_res_blocks * (self.model_channels * multiple) ** 2 for multiple in self.channel_mult)

    in_channels: Width = 3
    out_channels: Width = 3
    model_channels: Width = 224
    channel_mult: Multiples = [1, 2, 3, 4]
    num_res_blocks: Blocks = 2
    attention_resolutions: Annotated[list[Width], Field(max_length=MAX_LEVELS)] = [8, 4, 2]
    num_head_channels: Width | None = None
    num_heads: Width | None = None
    use_scale_shift_norm: bool = False
    resblock_updown: bool = False
    dropout: Probability = 0.0
    norm_groups: Width = 32

    @model_validator(mode="after")
    def _one_rule_for_heads(self) -> DenoiserConfig:
        if (self.num_head_channels is None) == (self.num_heads is None):
            raise ValueError("give either num_head_channels or num_heads")
        return self


class EncodersConfig(_Model):
    """Arguments of `midms.models.encoders.CorrespondenceEncoders`."""

    def least_parameters(self) -> int:
        """A lower bound: the convolutions of one encoder, its SPADE block's hidden layer, and the matching head."""
        grid = self.condition_channels * (self.factor**2 if self.condition_input == "unshuffle" else 1)
        channels = [grid, *self.widths]
        stages = sum(9 * before * after for before, after in pairwise(channels))
        return stages + 9 * self.hidden * self.widths[-1] + 72 * self.out_channels**2

    latent_channels: Width
    condition_channels: Width
    widths: Widths = [64, 256, 512]
    out_channels: Width = 256
    hidden: Width = 128
    padding_mode: PaddingMode = "zeros"
    form: Literal["released", "paper"] = "released"
    condition_input: Literal["latent", "nearest", "unshuffle"] = "nearest"
    factor: Annotated[int, Field(ge=1, le=64)] = 4
    spectral_norm: bool = True


class ScheduleConfig(_Model):
    """Keywords of `midms.diffusion.schedule.linear_schedule`."""

    num_train_timesteps: Annotated[int, Field(ge=2, le=100_000)] = 1000
    start: Annotated[float, Field(gt=0, lt=1)] = 0.0015
    end: Annotated[float, Field(gt=0, lt=1)] = 0.0195

    @model_validator(mode="after")
    def _ascending(self) -> ScheduleConfig:
        if self.start > self.end:
            raise ValueError(f"start {self.start} is above end {self.end}")
        return self


class Info(BaseModel):
    """Facts about the whole; those that a program computes with have a type, any other is kept as it is."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    task: Annotated[str, Field(max_length=100)] | None = None
    size: Annotated[int, Field(ge=8, le=4096)] | None = None
    schedule: ScheduleConfig | None = None
    temperature: Annotated[float, Field(gt=0, le=1000)] = 0.005
    settings: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _settings_of_the_loop(self) -> Info:
        if self.settings:
            _check_settings(self.settings)
        return self


class ComponentEntry(_Model):
    """One network: its file, and the config it is built from."""

    file: str
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    config: dict[str, JsonValue]


class Document(_Model):
    """All of `config.json`."""

    format: Literal["midms"]
    version: Literal[1]
    info: Info
    components: dict[Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_]{0,63}$")], ComponentEntry]


CONFIGS: dict[str, type[FirstStageConfig | DenoiserConfig | EncodersConfig]] = {
    "first_stage": FirstStageConfig,
    "denoiser": DenoiserConfig,
    "refiner": DenoiserConfig,
    "encoders": EncodersConfig,
}


def check_document(document: Any, source: object) -> None:
    """Check what a `config.json` says.

    Raises:
        CheckpointError: a key, type or range that does not fit; the message names the key.
    """
    validate(Document, document, source)
    for name, entry in document["components"].items():
        if name not in CONFIGS:
            continue
        config = validate(CONFIGS[name], entry["config"], source, f"components.{name}.config")
        if config.least_parameters() > entry["bytes"]:
            problem = (
                f"components.{name}: its config is that of a larger network than {entry['bytes']:,} bytes can hold"
            )
            raise CheckpointError(source, problem)


Validated = TypeVar("Validated", bound=BaseModel)


def validate(model: type[Validated], content: Any, source: object, path: str = "") -> Validated:
    """`content` as a model.

    Raises:
        CheckpointError: what does not fit, its first fault named.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join([path, *map(str, first["loc"])] if path else map(str, first["loc"]))
        got = "" if first["type"] == "missing" else f", got {_shortened(first['input'])}"
        raise CheckpointError(source, f"{key or 'the document'}: {first['msg']}{got}") from None
    except RecursionError:
        raise CheckpointError(source, "nested too deeply") from None


def _shortened(value: Any) -> str:
    if isinstance(value, Mapping | list):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} entries"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} ..."


def _check_settings(settings: Mapping[str, Any]) -> None:
    known = vars(InterleaveSettings())
    for key, value in settings.items():
        if key not in known:
            raise ValueError(f"settings.{key} is not known")
        expected = type(known[key])
        right = isinstance(value, int | float) if expected is float else isinstance(value, expected)
        if not right or (expected is not bool and isinstance(value, bool)):
            raise ValueError(f"settings.{key}: expected {expected.__name__}, got {_shortened(value)}")
    InterleaveSettings(**settings)
