"""Names and shapes of the latent diffusion release (LDM), and the conversion to our names and back.

A layout is a table with one `Entry` per tensor of the published file: its shape, its name(s) in our modules, and how it
is reshaped. Both directions and the check of shapes read the same table, so a converted file can always be written
back. This module does not import diffusers. A test compares the tables with the real modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from midms.checkpoints.errors import CheckpointError, summarise_keys
from midms.models.denoiser import DEFAULTS as UNET_DEFAULTS
from midms.models.first_stage import DEFAULTS as FIRST_STAGE_DEFAULTS
from midms.models.first_stage import complete_config

UNET_PREFIX = "model.diffusion_model."
EMA_PREFIX = "model_ema."
FIRST_STAGE_PREFIX = "first_stage_model."


class Entry(NamedTuple):
    """One tensor of the published layout."""

    ldm: str
    shape: tuple[int, ...]  # in the published file
    diffusers: tuple[str, ...]  # one name, or the three of q, k, v
    heads: int = 0  # number of heads of a joint qkv tensor


class _Table:
    """Collects entries of one layout."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def layer(self, ldm: str, diffusers: str, shape: tuple[int, ...]) -> None:
        """Weight of `shape` and bias (shape[0],)."""
        self.entries.append(Entry(f"{ldm}.weight", shape, (f"{diffusers}.weight",)))
        self.entries.append(Entry(f"{ldm}.bias", shape[:1], (f"{diffusers}.bias",)))

    def conv(self, ldm: str, diffusers: str, channels: tuple[int, int], kernel: int = 3) -> None:
        """Convolution of `channels` = (out, in)."""
        self.layer(ldm, diffusers, (*channels, kernel, kernel))

    def qkv(self, ldm: str, diffusers: str, channels: int, heads: int) -> None:
        """Joint q, k, v projection of the U-Net, with rows in the order (head, q|k|v, channel of the head)."""
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be split into {heads} heads")
        for kind, shape in (("weight", (3 * channels, channels, 1)), ("bias", (3 * channels,))):
            names = tuple(f"{diffusers}.to_{name}.{kind}" for name in "qkv")
            self.entries.append(Entry(f"{ldm}.{kind}", shape, names, heads))


def _depth(full: Mapping[str, Any]) -> int:
    """Blocks per level. The number is bounded because it sets the length of a table."""
    depth = full["num_res_blocks"]
    if not (isinstance(depth, int) and 1 <= depth <= 32):
        raise ValueError(f"num_res_blocks is {depth!r}, expected a whole number from 1 to 32")
    return depth


def unet_table(config: Mapping[str, Any]) -> list[Entry]:
    """Layout of the U-Net of `midms.models.denoiser`, below `model.diffusion_model.` in the published files."""
    full = complete_config(config, UNET_DEFAULTS, "unet")
    width, mults, depth = full["model_channels"], full["channel_mult"], _depth(full)
    table = _Table()
    table.layer("time_embed.0", "time_embedding.linear_1", (4 * width, width))
    table.layer("time_embed.2", "time_embedding.linear_2", (4 * width, 4 * width))
    table.conv("input_blocks.0.0", "conv_in", (width, full["in_channels"]))
    skips, channels, block = [width], width, 0
    for level, mult in enumerate(mults):
        for index in range(depth):
            block += 1
            diffusers = f"down_blocks.{level}"
            _unet_res(table, f"input_blocks.{block}.0", f"{diffusers}.resnets.{index}", channels, mult * width, full)
            channels = mult * width
            _unet_attention(table, f"input_blocks.{block}.1", f"{diffusers}.attentions.{index}", level, channels, full)
            skips.append(channels)
        if level < len(mults) - 1:
            block += 1
            _unet_resample(
                table, f"input_blocks.{block}.0", f"down_blocks.{level}.downsamplers.0", "op", channels, full
            )
            skips.append(channels)
    _unet_res(table, "middle_block.0", "mid_block.resnets.0", channels, channels, full)
    _unet_attention(table, "middle_block.1", "mid_block.attentions.0", None, channels, full)
    _unet_res(table, "middle_block.2", "mid_block.resnets.1", channels, channels, full)
    block = 0
    for position, level in enumerate(reversed(range(len(mults)))):
        for index in range(depth + 1):
            ldm, diffusers = f"output_blocks.{block}", f"up_blocks.{position}"
            out = mults[level] * width
            _unet_res(table, f"{ldm}.0", f"{diffusers}.resnets.{index}", channels + skips.pop(), out, full)
            channels = out
            attended = _unet_attention(table, f"{ldm}.1", f"{diffusers}.attentions.{index}", level, channels, full)
            if level and index == depth:
                _unet_resample(table, f"{ldm}.{1 + attended}", f"{diffusers}.upsamplers.0", "conv", channels, full)
            block += 1
    table.layer("out.0", "conv_norm_out", (width,))
    table.conv("out.2", "conv_out", (full["out_channels"], width))
    return table.entries


def _unet_res(table: _Table, ldm: str, diffusers: str, channels: int, out: int, full: Mapping[str, Any]) -> None:
    embedding = out * (2 if full["use_scale_shift_norm"] else 1)
    table.layer(f"{ldm}.in_layers.0", f"{diffusers}.norm1", (channels,))
    table.conv(f"{ldm}.in_layers.2", f"{diffusers}.conv1", (out, channels))
    table.layer(f"{ldm}.emb_layers.1", f"{diffusers}.time_emb_proj", (embedding, 4 * full["model_channels"]))
    table.layer(f"{ldm}.out_layers.0", f"{diffusers}.norm2", (out,))
    table.conv(f"{ldm}.out_layers.3", f"{diffusers}.conv2", (out, out))
    if channels != out:
        table.conv(f"{ldm}.skip_connection", f"{diffusers}.conv_shortcut", (out, channels), 1)


def _unet_attention(
    table: _Table, ldm: str, diffusers: str, level: int | None, channels: int, full: Mapping[str, Any]
) -> bool:
    """Add attention if the level has it, and return whether it does. The middle (level None) always has attention."""
    if level is not None and 2**level not in full["attention_resolutions"]:
        return False
    table.layer(f"{ldm}.norm", f"{diffusers}.group_norm", (channels,))
    table.qkv(f"{ldm}.qkv", diffusers, channels, full["num_heads"] or channels // full["num_head_channels"])
    table.layer(f"{ldm}.proj_out", f"{diffusers}.to_out.0", (channels, channels, 1))
    return True


def _unet_resample(table: _Table, ldm: str, diffusers: str, conv: str, channels: int, full: Mapping[str, Any]) -> None:
    if full["resblock_updown"]:
        _unet_res(table, ldm, diffusers, channels, channels, full)
    else:
        table.conv(f"{ldm}.{conv}", f"{diffusers}.conv", (channels, channels))


def first_stage_table(config: Mapping[str, Any]) -> list[Entry]:
    """Layout of the first stage of `midms.models.first_stage`, below `first_stage_model.` in the published files."""
    full = complete_config(config, FIRST_STAGE_DEFAULTS, "first stage")
    widths = [full["ch"] * mult for mult in full["ch_mult"]]
    latent, embedded = full["z_channels"], full["embed_dim"] or full["z_channels"]
    vq, depth, last = full["kind"] == "vq", _depth(full), len(widths) - 1
    table = _Table()
    table.conv("encoder.conv_in", "encoder.conv_in", (widths[0], full["in_channels"]))
    channels = full["ch"]
    for level, width in enumerate(widths):
        ldm, diffusers = f"encoder.down.{level}", f"encoder.down_blocks.{level}"
        for index in range(depth):
            _autoencoder_res(table, f"{ldm}.block.{index}", f"{diffusers}.resnets.{index}", channels, width)
            channels = width
        if level < last:
            table.conv(f"{ldm}.downsample.conv", f"{diffusers}.downsamplers.0.conv", (width, width))
    _autoencoder_ends(table, "encoder", (channels, channels), latent if vq else 2 * latent, full["mid_attention"])
    table.conv("decoder.conv_in", "decoder.conv_in", (channels, latent))
    for level in reversed(range(len(widths))):
        ldm, diffusers = f"decoder.up.{level}", f"decoder.up_blocks.{last - level}"
        for index in range(depth + 1):
            _autoencoder_res(table, f"{ldm}.block.{index}", f"{diffusers}.resnets.{index}", channels, widths[level])
            channels = widths[level]
        if level:
            table.conv(f"{ldm}.upsample.conv", f"{diffusers}.upsamplers.0.conv", (channels, channels))
    _autoencoder_ends(table, "decoder", (widths[-1], channels), full["out_ch"], full["mid_attention"])
    if vq:
        codes = (full["n_embed"], embedded)
        table.entries.append(Entry("quantize.embedding.weight", codes, ("quantize.embedding.weight",)))
    table.conv("quant_conv", "quant_conv", (embedded, latent) if vq else (2 * embedded, 2 * latent), 1)
    table.conv("post_quant_conv", "post_quant_conv", (latent, embedded), 1)
    return table.entries


def _autoencoder_res(table: _Table, ldm: str, diffusers: str, channels: int, out: int) -> None:
    table.layer(f"{ldm}.norm1", f"{diffusers}.norm1", (channels,))
    table.conv(f"{ldm}.conv1", f"{diffusers}.conv1", (out, channels))
    table.layer(f"{ldm}.norm2", f"{diffusers}.norm2", (out,))
    table.conv(f"{ldm}.conv2", f"{diffusers}.conv2", (out, out))
    if channels != out:
        table.conv(f"{ldm}.nin_shortcut", f"{diffusers}.conv_shortcut", (out, channels), 1)


def _autoencoder_ends(table: _Table, side: str, widths: tuple[int, int], out: int, attention: bool) -> None:
    """Middle block, last norm and last convolution of the encoder or decoder. `widths`: of the middle and the end."""
    middle, last = widths
    for number in (1, 2):
        _autoencoder_res(table, f"{side}.mid.block_{number}", f"{side}.mid_block.resnets.{number - 1}", middle, middle)
    ldm, diffusers = f"{side}.mid.attn_1", f"{side}.mid_block.attentions.0"
    if attention:
        table.layer(f"{ldm}.norm", f"{diffusers}.group_norm", (middle,))
        for old, new in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
            table.conv(f"{ldm}.{old}", f"{diffusers}.{new}", (middle, middle), 1)
    table.layer(f"{side}.norm_out", f"{side}.conv_norm_out", (last,))
    table.conv(f"{side}.conv_out", f"{side}.conv_out", (out, last))


def _is_linear(name: str) -> bool:
    """Whether a name is an attention projection: linear in our modules, a convolution with kernel 1 in the release."""
    return name.endswith((".to_q.weight", ".to_k.weight", ".to_v.weight", ".to_out.0.weight"))


def check_layout(entries: list[Entry], state: Mapping[str, Tensor], source: object, prefix: str = "") -> None:
    """Refuse a published state dict that does not fit the layout.

    Args:
        entries: the layout.
        state: published names, without `prefix`.
        source: name of the file in errors.
        prefix: of the names in the file, for errors.

    Raises:
        CheckpointError: a key is missing or superfluous, or a shape differs.
    """
    missing = [prefix + entry.ldm for entry in entries if entry.ldm not in state]
    if missing:
        raise CheckpointError(source, f"{len(missing)} key(s) missing: {summarise_keys(missing)}")
    unexpected = [prefix + key for key in set(state) - {entry.ldm for entry in entries}]
    if unexpected:
        raise CheckpointError(source, f"{len(unexpected)} unexpected key(s): {summarise_keys(unexpected)}")
    for entry in entries:
        shape = tuple(state[entry.ldm].shape)
        if shape != entry.shape:
            raise CheckpointError(source, f"{prefix}{entry.ldm} has shape {shape}, expected {entry.shape}")


def ldm_to_diffusers(entries: list[Entry], state: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """Convert a published state dict, without prefix, to ours.

    Raises:
        CheckpointError: as `check_layout`.
    """
    check_layout(entries, state, source)
    result: dict[str, Tensor] = {}
    for entry in entries:
        result.update(zip(entry.diffusers, _split(state[entry.ldm], entry), strict=True))
    return result


def _split(tensor: Tensor, entry: Entry) -> Iterator[Tensor]:
    """Split a published tensor into ours, one per name of the entry."""
    parts: tuple[Tensor, ...] = (tensor,)
    if entry.heads:
        grouped = tensor.reshape(entry.heads, 3, -1, *tensor.shape[1:])  # (heads, 3, C / heads, C, 1)
        parts = tuple(grouped[:, index].flatten(0, 1) for index in range(3))  # 3 x (C, C, 1)
    for part, name in zip(parts, entry.diffusers, strict=True):
        yield part.flatten(1) if _is_linear(name) else part


def diffusers_to_ldm(entries: list[Entry], state: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """The inverse of `ldm_to_diffusers`.

    Raises:
        CheckpointError: a key is missing or superfluous, or a size differs.
    """
    names = {name for entry in entries for name in entry.diffusers}
    if names != set(state):
        raise CheckpointError(source, f"key(s) missing or unexpected: {summarise_keys(names ^ set(state))}")
    result: dict[str, Tensor] = {}
    for entry in entries:
        parts = [state[name] for name in entry.diffusers]
        if entry.heads:
            grouped = [part.reshape(entry.heads, 1, -1, *part.shape[1:]) for part in parts]
            parts = [torch.cat(grouped, dim=1)]  # (heads, 3, C / heads, C)
        try:
            result[entry.ldm] = parts[0].reshape(entry.shape)
        except RuntimeError as error:
            problem = f"{entry.diffusers[0]} has shape {tuple(parts[0].shape)}, expected one of {entry.shape}"
            raise CheckpointError(source, problem) from error
    return result


def unet_from_ldm(
    state: Mapping[str, Tensor], config: Mapping[str, Any], source: object = "U-Net"
) -> dict[str, Tensor]:
    """State dict of `Denoiser.unet` from the published names without their prefix."""
    return ldm_to_diffusers(unet_table(config), state, source)


def first_stage_from_ldm(
    state: Mapping[str, Tensor], config: Mapping[str, Any], source: object = "first stage"
) -> dict[str, Tensor]:
    """State dict of `FirstStage.model` from the published names without their prefix."""
    return ldm_to_diffusers(first_stage_table(config), state, source)


def select_ema(state: Mapping[str, Tensor], entries: list[Entry], source: object) -> dict[str, Tensor]:
    """The averaged U-Net weights under their full names, which the release stores with all dots removed.

    Args:
        state: the part of a published file below `model_ema.`, without that prefix.
        entries: layout of the U-Net.
    """
    flat = {entry.ldm: f"diffusion_model.{entry.ldm}".replace(".", "") for entry in entries}
    missing = [f"{EMA_PREFIX}{name}" for name in flat.values() if name not in state]
    if missing:
        raise CheckpointError(source, f"{len(missing)} averaged key(s) missing: {summarise_keys(missing)}")
    return {name: state[short] for name, short in flat.items()}


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    """Call `load_state_dict`, and raise a `CheckpointError` of one line if it fails."""
    expected = module.state_dict()
    if set(expected) != set(state):
        raise CheckpointError(source, f"key(s) missing or unexpected: {summarise_keys(set(expected) ^ set(state))}")
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise CheckpointError(
                source, f"{key} has shape {tuple(value.shape)}, expected {tuple(expected[key].shape)}"
            )
    module.load_state_dict(dict(state))
