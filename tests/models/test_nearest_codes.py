"""The lookup of `decode` against the quantiser that trains the codes."""

from __future__ import annotations

import torch

from midms.models.first_stage import FirstStage

SIZES = {"kind": "vq", "ch": 8, "ch_mult": [1, 2], "num_res_blocks": 1, "n_embed": 600, "norm_groups": 4}


def test_codes_and_gradients_are_those_of_the_quantiser():
    torch.manual_seed(0)
    stage = FirstStage(SIZES)
    torch.nn.init.normal_(stage.model.quantize.embedding.weight)
    latents = torch.randn(2, 3, 24, 12, requires_grad=True)
    codes, whole = stage.nearest_codes(latents, rows=100), stage.quantise(latents).latents
    assert torch.allclose(codes, whole, atol=1e-6)
    (gradient,) = torch.autograd.grad((codes * torch.arange(12.0)).sum(), latents)
    assert torch.equal(gradient, torch.arange(12.0).expand(2, 3, 24, 12))


def test_no_tensor_as_large_as_the_distance_matrix_is_held():
    stage = FirstStage(SIZES)
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sizes.extend(t.numel() for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, torch.Tensor))
            return result

    with torch.no_grad(), Watch():
        stage.nearest_codes(torch.randn(1, 3, 32, 32), rows=64)
    assert max(sizes) == 64 * 600
