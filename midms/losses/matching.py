"""Losses of the correspondence and of the diffusion: Eq. 12-15 and 17, and the further terms of the released code.

Every function returns one scalar, a mean over all elements and the batch, without its weight lambda (the paper's
Table 6 and the released weights are listed in `midms.losses.objective`). Targets are detached inside.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# floor inside the logarithm of the released segmentation loss
_LOG_FLOOR = 1e-10


def _same_shape(got: Tensor, want: Tensor, name: str) -> None:
    if got.shape != want.shape:
        raise ValueError(f"{name}: shapes must agree, got {tuple(got.shape)} and {tuple(want.shape)}")


def at_least_float32(features: Tensor) -> Tensor:
    """`features`, of any shape, in at least float32, so that 16-bit outputs are compared and summed in float32."""
    return features.to(torch.promote_types(features.dtype, torch.float32))


def unit_channels(features: Tensor) -> Tensor:
    """Divide each position's vector of `features` (B, C, H, W) by its L2 norm over the channels."""
    return features / (features.norm(dim=1, keepdim=True) + torch.finfo(torch.float64).eps)


def domain_loss(condition_features: Tensor, source_features: Tensor, exemplar_features: Tensor | None = None) -> Tensor:
    """Common features of a condition and of its own image lie in one domain (Eq. 12).

    mean |n(S_X) - n(S'_X)| with n = L2 normalisation over channels; gradients reach both branches.

    Args:
        condition_features: S_X, (B, C, H, W).
        source_features: S'_X, the features of the condition's pseudo ground truth, (B, C, H, W).
        exemplar_features: S_Y, (B, C, H, W), to add the second term of the released code, which the paper does not
            have: mean |sg(n(S_Y)) * (n(S_X) - n(S'_X))|. None: only Eq. 12.
    """
    _same_shape(source_features, condition_features, "domain_loss")
    difference = unit_channels(at_least_float32(condition_features)) - unit_channels(
        at_least_float32(source_features)
    )  # (B, C, H, W)
    loss = difference.abs().mean()
    if exemplar_features is None:
        return loss
    _same_shape(exemplar_features, condition_features, "domain_loss, exemplar_features")
    return loss + (unit_channels(at_least_float32(exemplar_features)).detach() * difference).abs().mean()


def cycle_loss(cycle: Tensor, latent: Tensor) -> Tensor:
    """The warp of the exemplar, warped back, equals the exemplar (Eq. 13, the term of one step n).

    Args:
        cycle: R_{Y <- r <- Y}, the warped latent warped back, (B, c, H, W).
        latent: D_Y, (B, c, H, W); detached.
    """
    _same_shape(cycle, latent, "cycle_loss")
    return (cycle - latent.detach()).abs().mean()


def source_loss(generated_maps: Sequence[Tensor], source_maps: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The condition's own image is reconstructed from its warp by the condition, L_src (Eq. 14).

    sum_l w_l mean |phi_l(I_{X <- X'}) - phi_l(I'_X)|. The released code uses the five relux_2 of VGG-19 with
    w = 1/32, 1/16, 1/8, 1/4, 1.

    Args:
        generated_maps: phi_l of the decoded source branch, (B, C_l, H_l, W_l) each.
        source_maps: phi_l of the source image, the same shapes; detached.
        weights: w_l, one per map.
    """
    if not len(generated_maps) == len(source_maps) == len(weights) > 0:
        raise ValueError(
            "source_loss: expected as many generated maps as source maps and weights, at least one, "
            f"got {len(generated_maps)}, {len(source_maps)} and {len(weights)}"
        )
    terms = [w * perceptual_loss(g, s) for g, s, w in zip(generated_maps, source_maps, weights, strict=True)]
    return torch.stack(terms).sum()


def perceptual_loss(generated_map: Tensor, source_map: Tensor) -> Tensor:
    """The result keeps the condition's semantics, L_perc (Eq. 15): mean |phi_l(I_{X <- Y}) - phi_l(I'_X)|.

    Args:
        generated_map: phi_l of the result, (B, C, H, W); l = relu4_2 (CelebA-HQ, DeepFashion) or relu5_2 (churches).
        source_map: phi_l of the condition's pseudo ground truth, (B, C, H, W); detached.
    """
    _same_shape(generated_map, source_map, "perceptual_loss")
    difference = (generated_map - source_map.detach()).abs()  # (B, C, H, W)
    return difference.mean(dtype=torch.promote_types(difference.dtype, torch.float32))


def diffusion_loss(eps_pred: Tensor, eps: Tensor) -> Tensor:
    """The denoiser's own objective (Eq. 17, the term of one step n), as a mean squared error like LDM's.

    Args:
        eps_pred: eps_theta(r^{n+1}, tau_{n+1}), (B, c, H, W).
        eps: the noise of the forward process, (B, c, H, W); detached.
    """
    _same_shape(eps_pred, eps, "diffusion_loss")
    return F.mse_loss(at_least_float32(eps_pred), at_least_float32(eps).detach())


def released_diffusion_loss(x0_pred: Tensor, latent: Tensor) -> Tensor:
    """The released form of the diffusion term: mean squared error of x0 at one random step of the source branch.

    In the released warm-up, which has no diffusion, `x0_pred` is the warped source latent.

    Args:
        x0_pred: x0 predicted from the freshly noised source latent, (B, c, H, W).
        latent: the source latent z_src, (B, c, H, W); detached.
    """
    _same_shape(x0_pred, latent, "released_diffusion_loss")
    return F.mse_loss(at_least_float32(x0_pred), at_least_float32(latent).detach())


def warped_condition_loss(warped_condition: Tensor, condition: Tensor, weights: Tensor | None = None) -> Tensor:
    """Distance of the exemplar's condition, warped like the exemplar, to the condition, for any maps in [0, 1].

    mean w |R(condition_Y) - condition_X|. The term prevents matching by position (the "positional shortcut"). The
    absolute error is bounded, so a part that the exemplar lacks costs no more than its area.

    Args:
        warped_condition: the exemplar's condition maps after the warp, (B, L, H, W) in [0, 1].
        condition: the condition maps at the same size, (B, L, H, W) in [0, 1]; detached.
        weights: optional weights >= 0, broadcastable to (B, L, H, W), 0 where the exemplar has no matching part.
    """
    _same_shape(warped_condition, condition, "warped_condition_loss")
    error = (warped_condition - condition.detach()).abs()  # (B, L, H, W)
    if weights is None:
        return error.mean()
    weights = weights.detach().expand_as(error)
    return (weights * error).sum() / (weights.sum() + 1e-5)


def segmentation_warp_loss(warped_segmentation: Tensor, labels: Tensor, exemplar_labels: Tensor) -> Tensor:
    """The released warp loss of churches: negative log likelihood of the condition's label under the warped labels.

    Labels are resized to the warp's size by nearest neighbour. A position has weight 0 if its label is 0 (unknown) or
    does not occur in the same sample's exemplar, else 1. The sum is divided by (sum of weights + 1e-5).

    Args:
        warped_segmentation: the exemplar's one-hot labels after the warp, (B, L, h, w), probabilities.
        labels: class ids of the condition, (B, 1, H, W).
        exemplar_labels: class ids of the exemplar, (B, 1, H, W).
    """
    size, classes = warped_segmentation.shape[-2:], warped_segmentation.shape[1]
    target = F.interpolate(labels.float(), size=size, mode="nearest").long()[:, 0]  # (B, h, w)
    present = F.interpolate(exemplar_labels.float(), size=size, mode="nearest").long()[:, 0]  # (B, h, w)
    occurs = F.one_hot(present, classes).amax(dim=(1, 2))  # (B, L)
    weights = torch.gather(occurs, 1, target.flatten(1)).view_as(target) * (target != 0)  # (B, h, w)
    likelihood = warped_segmentation.gather(1, target[:, None])[:, 0]  # (B, h, w)
    negative_log = -torch.log(likelihood + _LOG_FLOOR)
    return (weights * negative_log).sum() / (weights.sum() + 1e-5)
