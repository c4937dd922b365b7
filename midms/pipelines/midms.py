"""The translation pipeline, `MIDMsPipeline`, from pictures to pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import torch
from PIL import Image
from torch import Tensor

from midms.checkpoints.folder import cast_floats, push_folder, save_states
from midms.checkpoints.loading import build_model, open_weights
from midms.conditions.make import ConditionSpec
from midms.config import ConfigError
from midms.data.samples import Sample, draw_sample, is_sample, sample_number, sample_task
from midms.io.provenance import weight_digests
from midms.matching.correspondence import argmax_correspondence
from midms.models.batch_invariance import make_batch_invariant
from midms.models.encoded import Condition, Exemplar, repeat_condition, repeat_exemplar
from midms.models.matcher import Matcher, Translation
from midms.models.numerics import (
    best_dtype,
    compile_static,
    fused_attention,
    is_large,
    set_dtype_and_memory_format,
)
from midms.pipelines.pictures import (
    Picture,
    batch_conditions,
    batch_pictures,
    picture_size,
    pil_images,
    read_picture,
    resize_images,
)
from midms.pipelines.seeds import pair_generators
from midms.pipelines.settings import LoopOptions, Settings
from midms.schema import check_argument_names

__all__ = [
    "MIDMsOutput",
    "MIDMsPipeline",
    "Picture",
    "batch_conditions",
    "batch_pictures",
    "pil_images",
    "read_picture",
    "repeat_exemplar",
]

DEFAULT_SIDE = 256  # for weights without a recorded training size
#: Pixels that are decoded at once from several latents: 16 pictures of 64 x 64 pixels, or 1 of 256 x 256.
_DECODED_PIXELS = 2**16
#: Names of the tensors that a call can return besides the images.
INTERMEDIATES = ("warps", "predictions", "masks", "correspondence")


class Computation(NamedTuple):
    """Precision and way of computing of the networks."""

    dtype: str  # of first stage and U-Nets: "float32" or "bfloat16"
    fast: bool  # channels-last and fused attention, see `MIDMsPipeline.fast`


@dataclass
class MIDMsOutput:
    """Result of a call. Lists have one entry per pair. Images are in [-1, 1], masks in {0, 1}.

    Attributes:
        images: the translations, PIL images (or a tensor (B, 3, H, W) with `output_type="pt"`).
        warps: the first warp decoded, (B, 3, H, W).
        predictions: the x0 prediction of each loop step decoded, (B, 3, H, W) each, n = N ... 1.
        masks: the confidence mask of each re-warped step, (B, 1, h, w) each.
        correspondence: best-matching exemplar position of each latent position at the first match, (B, 2, h, w) as
            (x, y) in [-1, 1] (align-corners). With several exemplars: positions in the first one.
        latents: r^0 after refinement, (B, c, h, w).
    """

    images: list[Image.Image] | Tensor
    latents: Tensor
    warps: Tensor | None = None
    predictions: list[Tensor] = field(default_factory=list)
    masks: list[Tensor] = field(default_factory=list)
    correspondence: Tensor | None = None


class MIDMsPipeline:
    """Translate conditions into the style of exemplars.

    >>> pipe = MIDMsPipeline.from_pretrained("demo")
    >>> image = pipe(condition=condition, exemplar="photo.jpg", seed=0).images[0]

    Attributes:
        model: the networks.
        settings: defaults of the loop, which a call can change.
        info: facts from the folder of weights (task, size, condition, ...).
        folder: of the weights. None: the networks were made in memory.
    """

    def __init__(
        self,
        model: Matcher,
        settings: Settings,
        info: dict[str, Any] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.model, self.settings, self.info, self.folder = model.eval(), settings, dict(info or {}), folder
        self._fast = False
        make_batch_invariant(model)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> MIDMsPipeline:
        """Load a folder of weights, a shipped name ("demo") or a repository of the Hugging Face hub.

        Args:
            dtype: of all networks but the correspondence encoders (bfloat16 halves time and memory). None: float32,
                whatever the precision of the files. Encoders and matching stay in float32, which the low temperature
                needs.
        Raises:
            ConfigError: no weights have that name, or the folder lacks a component.
        """
        loaded = open_weights(name_or_path)
        model = build_model(loaded, name_or_path)
        try:
            settings = model.settings_class(**loaded.info.get("settings", {}))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"weights {str(name_or_path)!r}, settings of its config.json: {error}") from None
        pipe = cls(model, settings, loaded.info, loaded.path)
        return pipe.to(device, dtype)

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> MIDMsPipeline:
        """Move to a device, and cast all networks but the encoders to `dtype`."""
        self.model.to(device)
        if dtype is not None:
            for part in self.model.networks():
                part.to(dtype)
        return self

    def fast(self, compile_networks: bool | None = None) -> MIDMsPipeline:
        """Switch, in place, to the fastest computation that keeps the picture (docs/benchmarks/sampling.md).

        First stage and U-Nets get the channels-last layout and fused attention, and on CUDA are compiled for static
        shapes. Precision is unchanged: the 40 dB PSNR to the plain result were measured in float32.

        Args:
            compile_networks: whether to compile. None: on CUDA only, where kernel launches are costly.
        """
        fused_attention(self.model)
        set_dtype_and_memory_format(self.model, self.dtype, channels_last=True)
        self._fast = True
        if compile_networks or (compile_networks is None and self.device.type == "cuda"):
            compile_static(self.model)
        return self

    def configure(self, dtype: str = "auto", fast: bool | None = None) -> MIDMsPipeline:
        """Set precision and way of computing, in place, as the programs do.

        Args:
            dtype: of first stage and U-Nets: "float32", "bfloat16" or "auto" (`best_dtype`). "auto" is bfloat16 for
                large U-Nets on a device with bfloat16 arithmetic, else float32.
            fast: whether to call `fast()`. None: for large U-Nets, without compiling them.
        """
        chosen = best_dtype(self.model, self.device) if dtype == "auto" else getattr(torch, dtype)
        set_dtype_and_memory_format(self.model, chosen, channels_last=self._fast)
        if fast or (fast is None and is_large(self.model)):
            self.fast(compile_networks=None if fast else False)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Precision of first stage and U-Nets."""
        dtype: torch.dtype = next(self.model.first_stage.parameters()).dtype
        return dtype

    @property
    def computation(self) -> Computation:
        """Precision and way of computing of the pipeline."""
        return Computation(str(self.dtype).removeprefix("torch."), self._fast)

    @cached_property
    def weight_files(self) -> dict[str, str]:
        """Digests of the files of the weights (`midms.io.provenance.weight_digests`), computed once."""
        return {} if self.folder is None else weight_digests(self.folder)

    @property
    def kind(self) -> str:
        """The method of these weights: "midms", or "matching_gan" for the GAN baseline."""
        return self.model.kind

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return self.model.device

    def condition_spec(self, size: int | None = None) -> ConditionSpec:
        """The form of condition that these weights take, at `size` pixels per side. None: the weights' own size."""
        encoders = self.model.encoders
        images = encoders.condition_input == "latent"
        channels = 3 if images else int(encoders.config["condition_channels"])
        return ConditionSpec(channels, size or int(self.info.get("size") or DEFAULT_SIDE), images)

    @property
    def task(self) -> str | None:
        """The task of the built-in benchmark whose samples these weights take. None: they take none."""
        spec = self.condition_spec()
        return None if spec.images else sample_task(self.info.get("task"), spec.channels)

    def sample(self, name: str | Path | int, size: int | None = None) -> Sample:
        """A sample of the package, "sample:1" or its number, drawn at `size` pixels per side (None: the weights' own).

        Raises:
            ConfigError: there is no such sample, or these weights take another form of condition.
        """
        number, spec = name if isinstance(name, int) else sample_number(name), self.condition_spec(size)
        if self.task is None:
            what = "an image" if spec.images else f"{spec.channels} maps"
            raise ConfigError(f"sample {number}: these weights take {what} as condition, which no sample has")
        return draw_sample(self.task, spec.side, number)

    def save_pretrained(self, path: str | Path, dtype: torch.dtype = torch.float32) -> Path:
        """Write the folder that `from_pretrained` reads, atomically."""
        model = self.model
        modules, configs = model.components()
        info = self.info | model.facts() | {"settings": asdict(self.settings)}
        states = {
            name: {key: cast_floats(value, dtype) for key, value in part.state_dict().items()}
            for name, part in modules.items()
        }
        return save_states(path, states, configs, info)

    def push_to_hub(self, repository: str, private: bool = False, token: str | None = None) -> str:
        """Save to a temporary folder and upload it as `repository` ("owner/model"). Returns the address."""
        with tempfile.TemporaryDirectory() as folder:
            return push_folder(self.save_pretrained(Path(folder) / "weights"), repository, private, token)

    def encode_exemplar(
        self,
        exemplar: Picture | Sequence[Picture],
        labels: Any = None,
        mask: Tensor | None = None,
        size: int | None = None,
    ) -> Exemplar:
        """Read and encode exemplars once, for any number of conditions.

        Args:
            exemplar: one picture, or one per condition.
            labels: the exemplars' condition maps, where the encoders' form needs them.
            mask: (B, 1, H, W), 1 where the exemplar may be used.
            size: working size in pixels per side (`midms.io.images.working_size`). None: the weights' own size.
        """
        images = batch_pictures(self._drawn(exemplar, "exemplar"), size or self.info.get("size")).to(self.device)
        labels = self._drawn(labels, "exemplar_condition")
        maps = None if labels is None else batch_conditions(labels).to(self.device)
        with torch.no_grad():
            return self.model.encode_exemplar(self._cast(images), maps, mask)

    def encode_condition(self, condition: Any) -> Condition:
        """Read and encode conditions once, for any number of exemplars. Accepts the same forms as a call."""
        condition = self._drawn(condition, "condition")
        maps = batch_conditions(condition, self.info.get("size")).to(self.device)
        if self.model.encoders.condition_input == "latent":
            maps = self._cast(maps)
        with torch.no_grad():
            features = self.model.encode_condition(maps)
        return Condition(features, (int(maps.shape[-2]), int(maps.shape[-1])), picture_size(condition))

    def _drawn(self, given: Any, part: str) -> Any:
        """An input in which each name of a sample is replaced by that `part` of the sample."""
        if isinstance(given, list | tuple):
            return [self._drawn(item, part) for item in given]
        return getattr(self.sample(given), part) if isinstance(given, str) and is_sample(given) else given

    def _cast(self, images: Tensor) -> Tensor:
        return images.to(self.dtype)

    @torch.no_grad()
    def __call__(
        self,
        condition: Any,
        exemplar: Picture | Sequence[Picture] | Exemplar | Sequence[Exemplar],
        exemplar_condition: Any = None,
        *,
        seed: int | Sequence[int] = 0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        return_intermediates: bool | Collection[str] = False,
        output_type: str = "pil",
        **loop: Unpack[LoopOptions],
    ) -> MIDMsOutput:
        """Translate conditions into the style of exemplars.

        Args:
            condition: condition maps (L, H, W) or (B, L, H, W) in [0, 1] (uint8 arrays are divided by 255), a list of
                maps, or the result of `encode_condition`. A picture or file is read as a line drawing (edges) at the
                size of the weights, and the result has the picture's size. One condition serves all exemplars.
                `midms.conditions.make.make_condition` makes maps from photos, joints and labels. "sample:1" ... name
                samples of the package (`sample`).
            exemplar: pictures or names of samples, one for all conditions or one each. Or results of
                `encode_exemplar`: several of them compete for each position (`join_exemplars` combines several into
                one per pair).
            exemplar_condition: the exemplar's condition maps, for encoders of the released form.
            seed: of the noise, one for all (pair i takes seed + i) or one each.
            generator: one generator per pair instead of seeds (a single one for a single pair).
            return_intermediates: names in `INTERMEDIATES` to return besides the images. True: all. Warps and
                predictions are decoded. Intermediates without a name here are not computed.
            output_type: "pil", "pt", or "latent" (no decoding, `images` is empty).
            loop: settings, or the numbers of steps T (`num_inference_steps`) and of U-Net calls N
                (`num_interleaved_steps`), and what to call during the loop (`callback`, `first_callback`); see
                `midms.pipelines.settings.LoopOptions`.
        Raises:
            ValueError: sizes or counts that do not fit together, an unknown name in `return_intermediates`, or
                settings of another method.
            TypeError: an unknown argument.
        """
        check_argument_names("MIDMsPipeline", LoopOptions, loop)
        wanted = _intermediates(return_intermediates)
        chosen = self._settings(loop)
        ready = condition if isinstance(condition, Condition) else self.encode_condition(condition)
        exemplars = self._exemplars(exemplar, exemplar_condition)
        count = max(len(part) for part in (ready.encoded.features, *(e.latent for e in exemplars)))
        encoded, size, drawn = repeat_condition(ready, count)
        exemplars = [repeat_exemplar(item, len(encoded.features)) for item in exemplars]
        generators = pair_generators(seed, generator, count)
        callbacks = loop.get("callback"), loop.get("first_callback")
        result = self.model.translate(encoded, exemplars, chosen, generators, *callbacks)
        output = MIDMsOutput([], result.latent)
        decoded = None if output_type == "latent" else self.decode(result.latent, size)
        if decoded is not None:
            images = resize_images(decoded, drawn or size)
            output.images = images if output_type == "pt" else pil_images(images)
        self._add_intermediates(output, wanted, result, decoded, size)
        if "correspondence" in wanted:
            first = exemplars[0]
            output.correspondence = argmax_correspondence(encoded.features, first.features, first.mask)
        return output

    @torch.no_grad()
    def decode(self, latent: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Decode latents (B, c, h, w) to float32 images (B, 3, H, W) in [-1, 1], cropped to `size`."""
        return self.model.decode(self._cast(latent), size).float()

    def decode_all(self, latents: Sequence[Tensor], size: tuple[int, int] | None = None) -> list[Tensor]:
        """`decode` several latents (B, c, h, w) of one size, together in batches."""
        if not latents:
            return []
        rows = torch.cat(list(latents))
        pixels = rows.shape[-2] * rows.shape[-1] * self.model.first_stage.factor**2
        images = torch.cat([self.decode(part, size) for part in rows.split(max(1, _DECODED_PIXELS // pixels))])
        return list(images.split([len(latent) for latent in latents]))

    def _settings(self, loop: LoopOptions) -> Settings:
        """The settings of a call, checked against the method of the weights."""
        settings = (loop.get("settings") or self.settings).with_steps(
            loop.get("num_inference_steps"), loop.get("num_interleaved_steps")
        )
        if not isinstance(settings, self.model.settings_class):
            names = type(settings).__name__, self.model.settings_class.__name__
            raise ValueError(f"settings: got {names[0]}, weights of the kind {self.kind} take {names[1]}")
        return settings

    def _exemplars(self, exemplar: Any, labels: Any) -> list[Exemplar]:
        ready = exemplar if isinstance(exemplar, list | tuple) and exemplar else [exemplar]
        if isinstance(exemplar, Exemplar):
            ready = [exemplar]
        elif not all(isinstance(item, Exemplar) for item in ready):
            ready = [self.encode_exemplar(exemplar, labels)]
        return list(ready)

    def _add_intermediates(
        self,
        output: MIDMsOutput,
        wanted: Collection[str],
        result: Translation,
        decoded: Tensor | None,
        size: tuple[int, int],
    ) -> None:
        """Add warps, predictions and masks, with each latent decoded only once."""
        warps = [result.first.warp] if "warps" in wanted else []
        predictions = result.loop.predictions if "predictions" in wanted else []
        known = decoded is not None and bool(predictions) and predictions[-1] is result.latent
        images = self.decode_all([*warps, *(predictions[:-1] if known else predictions)], size)
        output.warps = images[0] if warps else None
        output.predictions = images[len(warps) :] + ([decoded] if known and decoded is not None else [])
        output.masks = [rewarp.mask for rewarp in result.loop.rewarps] if "masks" in wanted else []


def _intermediates(asked: bool | Collection[str]) -> set[str]:
    wanted = set(INTERMEDIATES if asked is True else asked or ())
    if not wanted <= set(INTERMEDIATES):
        raise ValueError(f"return_intermediates: got {sorted(wanted)}, expected some of {', '.join(INTERMEDIATES)}")
    return wanted
