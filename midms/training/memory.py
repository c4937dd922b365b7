"""How much GPU memory a step of stage 3 needs, counted without a GPU.

    python -m midms.training.memory --base configs/celeba.yaml
    python -m midms.training.memory --base configs/celeba.yaml model.params.gradient_checkpointing=false

Networks and tensors are torch's fake ones, which know shape, type and device and store nothing. Weights, gradients,
AdamW's two moments and averages are counted from the parameters. Activations are the tensors that autograd saves for
the backward pass, each once, in the types that `trainer.precision` gives them on CUDA. Attention is counted as one
fused kernel, as on CUDA, which saves its inputs, its output and one number per row. Not counted: the CUDA context,
workspaces of convolutions, and memory that the allocator loses to fragmentation.

With `gradient_checkpointing: auto` a training recomputes activations only where this estimate says that the device has
too little memory to keep them. The program prints the estimate with recomputation, the least that such a config needs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from midms.programs import handle_user_errors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from midms.models.midms import MIDMs


#: Part of the free memory that the counted tensors may fill. The rest is for workspaces and fragmentation.
USABLE = 0.75


class Row(NamedTuple):
    """A part of the memory."""

    name: str
    bytes: int


class SavedTensors:
    """Count the tensors that autograd saves, each storage once, without the networks' own tensors."""

    def __init__(self, networks: nn.Module) -> None:
        self.known = {_storage(tensor) for tensor in [*networks.parameters(), *networks.buffers()]}
        self.bytes = 0
        self.alive: list[Any] = []  # kept, for another storage could reuse a freed address

    def pack(self, tensor: Tensor) -> Tensor:
        """Count the storage of a tensor of any shape that autograd keeps, once, and return the tensor."""
        key = _storage(tensor)
        if key not in self.known:
            self.known.add(key)
            self.alive.append(tensor)
            self.bytes += tensor.untyped_storage().nbytes()
        return tensor

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the tensors that are saved inside the block."""
        from torch.autograd.graph import saved_tensors_hooks

        with saved_tensors_hooks(self.pack, lambda tensor: tensor):
            yield


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def fixed_rows(model: MIDMs, features: nn.Module, average: bool) -> list[Row]:
    """Memory that does not depend on the batch: 4 bytes per number. AdamW keeps two more numbers per trained weight."""
    trained = _parameter_count(model.encoders) + _parameter_count(model.denoiser)
    frozen = sum(_parameter_count(part) for part in (model.first_stage, model.refiner, features) if part is not None)
    rows = [
        Row("trained weights", 4 * trained),
        Row("their gradients", 4 * trained),
        Row("AdamW's two moments", 8 * trained),
        Row("frozen: first stage, U-Net before fine-tuning, features", 4 * frozen),
    ]
    return [*rows, Row("averaged weights", 4 * trained)] if average else rows


def _parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def saved_rows(model: MIDMs, features: nn.Module, calls: int, rewarps: int, batch: int, size: int) -> list[Row]:
    """Activations saved by one end-to-end step, with exemplar and source branch as one batch of 2B.

    The matching saves only its inputs and outputs (`midms.matching.streaming`), which these rows include.
    """
    import torch

    def image(count: int, channels: int = 3) -> Tensor:
        return torch.empty(count, channels, size, size, device="cuda")

    saved, keep, rows = SavedTensors(torch.nn.ModuleList([model, features])), [], []

    def count(name: str, compute: Callable[[], Any]) -> Any:
        before = saved.bytes
        with saved.counting():
            keep.append(compute())
        rows.append(Row(name, saved.bytes - before))
        return keep[-1]

    maps = model.encoders.config["condition_channels"]
    condition = count("F_X and the head", lambda: model.encode_condition(image(batch, maps)))
    labels = image(2 * batch, maps) if model.encoders.form == "released" else None
    both = count("F_Y and the head", lambda: model.encode_exemplar(image(2 * batch), labels))
    latent = torch.empty_like(both.latent).requires_grad_()
    double = type(condition)(*(torch.cat([part, part]) for part in condition))
    times = torch.zeros(2 * batch, dtype=torch.long, device="cuda")
    count(f"U-Net, {calls} calls", lambda: [model.denoiser(latent.clone(), times) for _ in range(calls)])
    count(
        f"F_iter, {rewarps} re-warps", lambda: [model.encoders.encode_iterate(latent, double) for _ in range(rewarps)]
    )
    decoded = count("decoder", lambda: model.first_stage.decode(latent))
    maps_of = count("features of the results", lambda: features(decoded))
    count("losses on them", lambda: [(value - torch.empty_like(value)).abs().mean() for value in maps_of.values()])
    return rows


def largest_block(model: MIDMs, batch: int, side: int) -> Row:
    """Activations saved by the largest block of the U-Net while gradient checkpointing recomputes that block."""
    import torch

    saved, unet, sizes = SavedTensors(model), model.denoiser.unet, [0]
    unet.disable_gradient_checkpointing()
    handles = []
    for block in [*unet.down_blocks, unet.mid_block, *unet.up_blocks]:
        handles.append(block.register_forward_pre_hook(lambda *_: sizes.append(-saved.bytes)))
        handles.append(block.register_forward_hook(lambda *_: sizes.append(sizes.pop() + saved.bytes)))
    channels = model.first_stage.latent_channels
    latent = torch.empty(2 * batch, channels, side, side, device="cuda", requires_grad=True)
    with saved.counting():
        model.denoiser(latent, torch.zeros(2 * batch, dtype=torch.long, device="cuda"))
    for handle in handles:
        handle.remove()
    return Row("the U-Net's largest block, computed again", max(sizes))


def network_configs(params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configs of first stage and U-Net, read from the weights that a config starts from.

    Where the weights do not exist yet, LDM's published form with the same number of latent channels is assumed.
    """
    from midms.checkpoints.loading import open_weights
    from midms.config import ConfigError
    from midms.models.denoiser import CELEBAHQ_VQ4, CHURCHES_KL8
    from midms.models.first_stage import KL_F8, VQ_F4

    try:
        configs = open_weights(params["weights"]).configs
    except ConfigError:
        return (VQ_F4, CELEBAHQ_VQ4) if params["encoders"]["latent_channels"] == 3 else (KL_F8, CHURCHES_KL8)
    return configs["first_stage"], configs["denoiser"]


def build(params: dict[str, Any], configs: tuple[dict[str, Any], dict[str, Any]]) -> tuple[MIDMs, nn.Module]:
    """The model of a config and its feature network, inside `fake_cuda`."""
    import torch

    from midms.config import instantiate
    from midms.losses.perceptual import FirstStageFeatures
    from midms.models.denoiser import Denoiser
    from midms.models.encoders import CorrespondenceEncoders
    from midms.models.first_stage import FirstStage
    from midms.models.midms import MIDMs

    with torch.device("cuda"):
        encoders = CorrespondenceEncoders(**params["encoders"])
        model = MIDMs(FirstStage(configs[0]), encoders, Denoiser(configs[1]), Denoiser(configs[1]))
        if params.get("features") is None:
            return model, FirstStageFeatures(model.first_stage.model)
        node = params["features"]
        return model, instantiate({**node, "params": {**(node.get("params") or {}), "weights": "random"}})


@contextmanager
def fake_cuda(sixteen_bits: bool) -> Iterator[None]:
    """Use tensors that store nothing, on a GPU that need not exist, with attention in one kernel."""
    import torch
    import torch.nn.functional as F
    from torch._subclasses.fake_tensor import FakeTensorMode

    class FusedAttention(torch.autograd.Function):
        """Attention that saves the same tensors as flash kernels do."""

        @staticmethod
        def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            out = torch.empty_like(query)
            ctx.save_for_backward(query, key, value, out, query[..., 0].float())
            return out

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return ctx.saved_tensors[:3]

    def attention(query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
        return FusedAttention.apply(query, key, value)

    before = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = attention  # type: ignore[assignment]  # restored below
    enabled, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    try:
        torch.set_autocast_enabled("cuda", sixteen_bits)
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        with FakeTensorMode():
            yield
    finally:
        F.scaled_dot_product_attention = before
        torch.set_autocast_enabled("cuda", enabled)
        torch.set_autocast_dtype("cuda", dtype)


def estimate(config: Any, size: int, checkpointing: bool | None = None) -> list[Row]:
    """All parts for one end-to-end step of a stage-3 config on images of `size` pixels.

    Args:
        checkpointing: whether the U-Net's blocks are recomputed. None: as the config says; "auto" is counted as true.
    Raises:
        ConfigError: the config is of another stage.
    """
    from midms.config import ConfigError, resolve
    from midms.diffusion.settings import InterleaveSettings

    whole = resolve(config)
    if not whole["model"]["target"].endswith(".MIDMsTraining"):
        raise ConfigError(f"model.target: {whole['model']['target']}, expected MIDMsTraining; only stage 3 is counted")
    params = whole["model"]["params"]
    settings = InterleaveSettings(**{"refine_steps": 0, **params.get("interleave", {})})
    batch = -(-int(whole["data"]["params"].get("batch_size", 8)) // int(params.get("accumulation", 1)))
    if checkpointing is None:
        checkpointing = bool(params.get("gradient_checkpointing"))
    calls, rewarps = settings.num_interleaved_steps, len(settings.rewarped_steps())
    configs = network_configs(params)
    with fake_cuda("16" in str(whole["trainer"].get("precision", "32-true"))):
        model, features = build(params, configs)
        model.train()
        if checkpointing:
            model.denoiser.unet.enable_gradient_checkpointing()
        rows = fixed_rows(model, features, params.get("ema_decay") is not None)
        rows += saved_rows(model, features, calls, rewarps, batch, size)
        return [*rows, largest_block(model, batch, size // model.first_stage.factor)] if checkpointing else rows


def free_bytes(accelerator: str) -> int | None:
    """Free memory of the device that a training will use. None: unknown.

    Args:
        accelerator: Lightning's name: "auto", "cpu", "gpu", "cuda" or "mps". All but CUDA share the main memory.
    """
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return 1024 * kilobytes[0] if kilobytes else None


def needs_checkpointing(config: Any, size: int, free: int | None) -> bool:
    """Whether a stage-3 step that keeps all activations may not fit into `free` bytes. True where `free` is unknown."""
    return free is None or sum(row.bytes for row in estimate(config, size, checkpointing=False)) > USABLE * free


@handle_user_errors("memory")
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the memory. Returns 0, or 2 after one line on a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m midms.training.memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", nargs="+", required=True, metavar="YAML", help="configs, merged from left to right")
    parser.add_argument("--size", type=int, default=256, help="pixels per side")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    options = parser.parse_intermixed_args(arguments)
    from midms.config import check, load_config

    files = [item for item in options.base if "=" not in item]
    config = load_config(files, options.overrides + [item for item in options.base if "=" in item])
    check(config)
    rows = estimate(config, options.size)
    for row in [*rows, Row("sum", sum(row.bytes for row in rows))]:
        print(f"{row.bytes / 1e9:7.2f} GB  {row.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
