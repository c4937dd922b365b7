"""OIGPipeline: edit an image by text with a pretrained Stable Diffusion, without training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack, cast

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import logging
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from midms.oig import networks
from midms.oig.features import structure_layers
from midms.oig.guidance import ClipTerm, clip_margin_loss
from midms.oig.images import Resize, prepare_images, to_rgb
from midms.oig.lockstep import Conditions
from midms.oig.outputs import InversionOutput, OIGOutput
from midms.oig.prompts import check_prompts, match_batch, parse_task, replace_word
from midms.oig.sampling import EditStep, edit, invert
from midms.oig.schedule import InversionKind, Schedule, inversion_plan, make_schedule
from midms.oig.settings import EditOptions, EditSettings

logger = logging.get_logger(__name__)

OnStep = Callable[[EditStep], None]


class OIGPipeline(DiffusionPipeline):
    """Optimised inference with guidance (OIG, OIG+) on a Stable Diffusion 1.x or 2.x.

    Args:
        vae, text_encoder, tokenizer, unet, scheduler: of the model. Sampling is DDIM with the scheduler's noise levels.
        clip_model: CLIP with both towers for the guidance (the paper: ViT-B/32); needed unless `clip_weight` is 0.
        clip_tokenizer: CLIP's tokenizer. None: `tokenizer`, which is the same for Stable Diffusion 1.x and 2.x.
        captioner, caption_processor: BLIP, for images without a prompt.
        safety_checker, feature_extractor: applied to the edits when both are given.
    Raises:
        ConfigError: a scheduler without a table of betas, or a U-Net of another number of channels than the latents.

    Example:
        >>> clip = CLIPModel.from_pretrained("openai/clip-vit-base-patch32")
        >>> pipe = OIGPipeline.from_pretrained("CompVis/stable-diffusion-v1-4", clip_model=clip)
        >>> start = pipe.invert(image, "a cat on a bed")
        >>> pipe(start.prompt, "a dog on a bed", start.latents).images[0]
    """

    vae: Any
    text_encoder: Any
    tokenizer: Any
    unet: Any
    scheduler: Any
    clip_model: Any
    clip_tokenizer: Any
    captioner: Any
    caption_processor: Any
    safety_checker: Any
    feature_extractor: Any

    model_cpu_offload_seq = "text_encoder->unet->vae"  # type: ignore[assignment]  # declared as None there
    _optional_components = [  # noqa: RUF012 - as the base class has it
        "clip_model",
        "clip_tokenizer",
        "captioner",
        "caption_processor",
        "safety_checker",
        "feature_extractor",
    ]

    def __init__(  # noqa: PLR0913, PLR0917 - one argument per component
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        clip_model: CLIPModel | None = None,
        clip_tokenizer: CLIPTokenizer | None = None,
        captioner: Any = None,
        caption_processor: Any = None,
        safety_checker: Any = None,
        feature_extractor: Any = None,
    ) -> None:
        super().__init__()
        networks.check_model(unet, vae, scheduler)
        ddim = DDIMScheduler.from_config(
            cast(Any, scheduler).config, clip_sample=False, set_alpha_to_one=False, steps_offset=1
        )
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=ddim,
            clip_model=clip_model,
            clip_tokenizer=clip_tokenizer,
            captioner=captioner,
            caption_processor=caption_processor,
            safety_checker=safety_checker,
            feature_extractor=feature_extractor,
        )
        self.vae_scale_factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this number, because the U-Net halves the latent once per level."""
        return self.vae_scale_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def default_resolution(self) -> int:
        return self.unet.config.sample_size * self.vae_scale_factor

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations of the U-Net and the decoder in the backward pass instead of keeping them."""
        self.unet.enable_gradient_checkpointing()
        self.vae.enable_gradient_checkpointing()

    def compile_networks(self, **options: Any) -> None:
        """`torch.compile` the attention blocks of the U-Net, the decoder and CLIP's image tower, in place.

        The U-Net's residual blocks are not compiled: their features are read by hooks, which a compiled graph may skip.

        Args:
            options: passed to `torch.compile`.
        """
        blocks = [m for m in self.unet.modules() if type(m).__name__ == "BasicTransformerBlock"]
        for module in [*blocks, self.vae.decoder, getattr(self.clip_model, "vision_model", None)]:
            if module is not None:
                module.compile(**options)

    @torch.no_grad()
    def caption(self, images: Any) -> list[str]:
        """Describe images with the captioner.

        Raises:
            ValueError: the pipeline has no captioner.
        """
        if self.captioner is None or self.caption_processor is None:
            raise ValueError(
                "prompt: expected a source prompt, got none, and the pipeline has no captioner; give a prompt, or pass "
                "captioner= and caption_processor= (BLIP) to from_pretrained"
            )
        listed = [to_rgb(image) for image in (images if isinstance(images, (list, tuple)) else [images])]
        inputs = self.caption_processor(images=listed, return_tensors="pt").to(
            self.captioner.device, self.captioner.dtype
        )
        tokens = self.captioner.generate(**inputs, max_new_tokens=30)
        return [text.strip() for text in self.caption_processor.batch_decode(tokens, skip_special_tokens=True)]

    @torch.no_grad()
    def target_prompts(self, prompt: str | list[str], task: str) -> list[str]:
        """The target prompts of a task such as cat2dog, see `midms.oig.prompts.replace_word`.

        Raises:
            ValueError: the task or a prompt is malformed, or CLIP is missing.
        """
        source, target = parse_task(task)
        return [replace_word(p, source, target, self.embed_clip_text).prompt for p in check_prompts("prompt", prompt)]

    @torch.no_grad()
    def embed_clip_text(self, texts: list[str]) -> Tensor:
        """CLIP's text embeddings, not normalised, (len(texts), D).

        Raises:
            ValueError: the pipeline has no CLIP.
        """
        if self.clip_model is None:
            raise ValueError(
                "clip_model: expected a CLIPModel, got none; pass clip_model=CLIPModel.from_pretrained("
                "'openai/clip-vit-base-patch32') to from_pretrained, or set clip_weight=0"
            )
        return networks.clip_text_embedding(self.clip_model, self.clip_tokenizer or self.tokenizer, texts)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Tensor:
        """States of the text encoder, (len(prompts), L, D); longer prompts are truncated with a warning."""
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        for prompt, untruncated in zip(prompts, self.tokenizer(prompts).input_ids, strict=True):
            if len(untruncated) > length:
                logger.warning(f"prompt is cut to {length} tokens: {prompt!r}")
        mask = None
        if getattr(self.text_encoder.config, "use_attention_mask", False):
            mask = tokens.attention_mask.to(self._execution_device)
        return self.text_encoder(tokens.input_ids.to(self._execution_device), attention_mask=mask)[0]

    @torch.no_grad()
    def invert(
        self,
        image: Any,
        prompt: str | list[str] | None = None,
        *,
        num_inference_steps: int = 50,
        generator: torch.Generator | None = None,
        resolution: int | None = None,
        resize: Resize = "fit",
        sample_posterior: bool = False,
        schedule: InversionKind = "coherent",
    ) -> InversionOutput:
        """Find the noise x_T from which the source prompt reproduces a real image.

        Args:
            image: one image or a list: PIL of any mode, arrays, tensors in 0..1.
            prompt: source prompt, one or one per image; None: use the captioner.
            num_inference_steps: N; use the same number for the edit.
            generator: for `sample_posterior`.
            resolution: side of the working square, or of the square with the working area; None: the model's.
            resize: "fit" keeps the aspect ratio, "stretch" makes a square (released code).
            sample_posterior: start from a sample of the autoencoder's posterior (released code), not from its mean.
            schedule: see `midms.oig.schedule.inversion_plan`.
        Raises:
            ValueError: an argument is unusable.
        """
        plan = inversion_plan(self.sampling_schedule(num_inference_steps), schedule)
        pixels = prepare_images(image, resolution or self.default_resolution, self.size_multiple, resize)
        prompts = self.caption(image) if prompt is None else check_prompts("prompt", prompt)
        prompts = match_batch("prompt", prompts, len(pixels))
        with networks.frozen(self.unet, self.vae, self.text_encoder):
            pixels = pixels.to(self._execution_device, self.latent_dtype)
            z = networks.encode_images(self.vae, pixels, sample_posterior, generator).to(self.latent_dtype)
            trajectory = invert(self.noise_predictor(), plan, z, self.encode_prompts(prompts))
        self.maybe_free_model_hooks()
        return InversionOutput(latents=trajectory[-1], prompt=prompts, trajectory=trajectory, image=pixels)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        target_prompt: str | list[str],
        latents: Tensor | None = None,
        *,
        num_inference_steps: int = 50,
        generator: torch.Generator | list[torch.Generator] | None = None,
        on_step: OnStep | None = None,
        output_type: str = "pil",
        **options: Unpack[EditOptions],
    ) -> OIGOutput:
        """Edit images: OIG, or OIG+ with `cycle_weight` above 0.

        Args:
            prompt: source prompt, one or one per image.
            target_prompt: target prompt, one or one per image.
            latents: x_T from `invert`; None: random, for an image that is generated from `prompt`.
            num_inference_steps: N.
            generator: for random latents.
            on_step: called with an `EditStep` after every step.
            output_type: "pil", "np", "pt" or "latent".
            options: `negative_prompt`, `height` and `width`, and the fields of `midms.oig.settings.EditSettings`
                (`guidance_scale`, `clip_weight`, `structure_weight`, ...); see `midms.oig.settings.EditOptions`.
        Raises:
            ValueError: an argument is unusable.
            TypeError: an unknown argument.
            RuntimeError: a gradient is not finite.
        """
        chosen = EditSettings.from_options(options)
        if output_type not in ("pil", "np", "pt", "latent"):
            raise ValueError(f"output_type must be 'pil', 'np', 'pt' or 'latent', got {output_type!r}")
        schedule = self.sampling_schedule(num_inference_steps)
        sources, targets = check_prompts("prompt", prompt), check_prompts("target_prompt", target_prompt)
        batch = max(len(sources), len(targets)) if latents is None else len(latents)
        sources, targets = match_batch("prompt", sources, batch), match_batch("target_prompt", targets, batch)
        x_top = self.starting_latents(latents, batch, options.get("height"), options.get("width"), generator)
        layers = list(structure_layers(self.unet).values())
        with networks.frozen(self.unet, self.vae, self.text_encoder, self.clip_model):
            conditions = self.conditions(sources, targets, options.get("negative_prompt"), chosen)
            clip = None
            if chosen.clip_weight > 0:
                clip = self.clip_objective(sources, targets, chosen.clip_margin, chosen.clip_antialias)
            with self.progress_bar(total=schedule.num_steps) as progress:

                def tick(step: EditStep) -> None:
                    progress.update()
                    if on_step is not None:
                        on_step(step)

                result = edit(self.noise_predictor(), schedule, conditions, x_top, chosen, layers, clip, tick)
        return self.output(result.edit, result.reconstruction, output_type)

    @property
    def latent_dtype(self) -> torch.dtype:
        """Dtype of latents, losses and noise levels: float64 for float64 networks, else float32."""
        return torch.promote_types(self.unet.dtype, torch.float32)

    def sampling_schedule(self, num_steps: int) -> Schedule:
        """Times and noise levels for N steps on the pipeline's device."""
        return make_schedule(self.alphas, num_steps, self.scheduler.config.steps_offset)

    @property
    def alphas(self) -> Tensor:
        """a(0..T-1) on the pipeline's device."""
        return self.scheduler.alphas_cumprod.to(self._execution_device)

    def noise_predictor(self) -> networks.NoisePredictor:
        return networks.NoisePredictor(self.unet, self.alphas, self.scheduler.config.prediction_type)

    def starting_latents(
        self,
        latents: Tensor | None,
        batch: int,
        height: int | None,
        width: int | None,
        generator: torch.Generator | list[torch.Generator] | None,
    ) -> Tensor:
        """x_T on the pipeline's device, (B, 4, H/8, W/8): the checked argument, or random.

        Raises:
            ValueError: the size does not suit the networks.
        """
        factor, channels = self.vae_scale_factor, self.unet.config.in_channels
        if latents is None:
            shape = (batch, channels, (height or self.default_resolution), (width or self.default_resolution))
        elif latents.ndim != 4 or latents.shape[1] != channels or not len(latents):
            raise ValueError(f"latents: expected (B, {channels}, H, W), got {tuple(latents.shape)}")
        else:
            shape = (batch, channels, latents.shape[2] * factor, latents.shape[3] * factor)
        if shape[2] % self.size_multiple or shape[3] % self.size_multiple or min(shape) < 1:
            raise ValueError(
                f"image sides must be positive multiples of {self.size_multiple}, got {shape[2]} x {shape[3]}"
            )
        if latents is not None:
            return latents.to(self._execution_device, self.latent_dtype)
        small = (batch, channels, shape[2] // factor, shape[3] // factor)
        return randn_tensor(small, generator=generator, device=self._execution_device, dtype=self.latent_dtype)

    def conditions(
        self, sources: list[str], targets: list[str], negative_prompt: str | list[str] | None, settings: EditSettings
    ) -> Conditions:
        """Text states of the batch; equal prompts share one tensor, so that their branches are computed once."""
        with torch.no_grad():
            source = self.encode_prompts(sources)
            target = source if targets == sources else self.encode_prompts(targets)
            if settings.guidance_scale <= 1:
                return Conditions(source, target, None)
            if negative_prompt is None:
                return Conditions(source, target, source)
            listed = [negative_prompt] if isinstance(negative_prompt, str) else list(negative_prompt)
            negatives = match_batch("negative_prompt", listed, len(sources))
            return Conditions(source, target, source if negatives == sources else self.encode_prompts(negatives))

    def clip_objective(
        self, sources: list[str], targets: list[str], margin: float, antialias: bool
    ) -> Callable[[Tensor], ClipTerm]:
        """x0hat (B, 4, h, w) -> L_clip and its cosines, through the decoder and CLIP's image tower."""
        source_text, target_text = self.embed_clip_text(sources), self.embed_clip_text(targets)

        def objective(x0: Tensor) -> ClipTerm:
            image = networks.decode_latents(self.vae, x0)  # (B, 3, H, W)
            embedding = networks.clip_image_embedding(self.clip_model, image, antialias)  # (B, D)
            return clip_margin_loss(embedding, source_text.to(embedding), target_text.to(embedding), margin)

        return objective

    def output(self, latents: Tensor, reconstruction: Tensor, output_type: str) -> OIGOutput:
        """Decode both latents and pass the edits through the safety checker, if there is one."""
        if output_type == "latent":
            return OIGOutput(latents, reconstruction, latents, reconstruction, None)
        pictures = [networks.decode_latents(self.vae, z).clamp(0, 1) for z in (latents, reconstruction)]
        if not all(bool(torch.isfinite(picture).all()) for picture in pictures):
            raise ValueError("the edit holds NaN or infinite values; use smaller weights of the guidance")
        flags = None
        if self.safety_checker is not None and self.feature_extractor is not None:
            pictures[0], flags = networks.check_safety(self.safety_checker, self.feature_extractor, pictures[0])
        images, rebuilt = (
            self.image_processor.postprocess(p, output_type, do_denormalize=[False] * len(p)) for p in pictures
        )
        self.maybe_free_model_hooks()
        return OIGOutput(images, rebuilt, latents, reconstruction, flags)
