"""Reading the U-Net's features without changing the U-Net."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from torch import Tensor, nn

FeatureReader = Callable[[int, Tensor], None]


def structure_layers(unet: nn.Module) -> dict[str, nn.Module]:
    """The last convolutions of the residual blocks in `down_blocks` and `up_blocks` (not the middle), by block name.

    Their outputs, before the shortcut is added, are the features of OIG; Stable Diffusion 1.x has 8 + 12.

    Raises:
        ValueError: the network has no such block.
    """
    layers = {
        name: module.conv2
        for name, module in unet.named_modules()
        if name.startswith(("down_blocks.", "up_blocks.")) and ".resnets." in name and hasattr(module, "conv2")
    }
    if not layers:
        raise ValueError(
            f"{type(unet).__name__} has no residual blocks below down_blocks and up_blocks; OIG needs a U-Net"
        )
    return layers


class FeatureTap:
    """Context manager that passes each layer's output to `read(index, output)`, or stores it in `features`.

    The hooks exist only within the `with` block, also if it ends in an exception. They are removed before the backward
    pass, so the second forward pass of gradient checkpointing is not read.

    Example:
        >>> with FeatureTap(list(structure_layers(unet).values())) as tap:
        ...     unet(x, t, encoder_hidden_states=text)
        >>> tap.features[0].shape
    """

    def __init__(self, layers: list[nn.Module], read: FeatureReader | None = None) -> None:
        self.layers = layers
        self.features: list[Tensor] = []
        self._read = read or (lambda _, output: self.features.append(output))
        self._handles: list[Any] = []

    def __enter__(self) -> FeatureTap:
        for index, layer in enumerate(self.layers):
            self._handles.append(layer.register_forward_hook(self._hook(index)))
        return self

    def _hook(self, index: int) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._read(index, output)

        return hook

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
