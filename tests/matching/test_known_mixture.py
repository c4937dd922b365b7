"""Several exemplars and masks on drawn portraits, where the right correspondence and the right mixture are known.

Features are made from the scenes' own surface coordinates, so that what is tested is the matching and no network:
"hair from this portrait, the rest from that one" must give the target drawn with one style's hair on the other.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from midms.data.procedural import faces
from midms.data.procedural.drawing import invert
from midms.data.procedural.scene import Scene, correspondence
from midms.matching.confidence import match_confidence
from midms.matching.correspondence import match

SIZE = 48
CELL = 2 / (SIZE - 1)


def features(scene: Scene) -> Tensor:
    """Unit features of the part and the place on its surface, (1, 68, SIZE, SIZE): near places have near features."""
    centres = (np.arange(SIZE) + 0.5) * (2 / SIZE) - 1
    x, y = np.meshgrid(centres, centres)
    frames = invert(scene.frames)[scene.labels]  # (H, W, 2, 3)
    place = np.einsum("hwij,hwj->ihw", frames[..., :2], np.stack([x, y], axis=-1)) + np.moveaxis(frames[..., 2], 2, 0)
    waves = np.einsum("fi,ihw->fhw", np.random.default_rng(0).normal(0, 3, (24, 2)), place)
    part = 4 * np.eye(len(faces.Part))[scene.labels].transpose(2, 0, 1)
    return torch.from_numpy(np.concatenate([np.sin(waves), np.cos(waves), part]))[None].float()


def image(scene: Scene) -> Tensor:
    return torch.from_numpy(scene.image).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hair_from_one_portrait_and_the_rest_from_another(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layouts, styles = ([sample(rng) for _ in range(3)] for sample in (faces.sample_layout, faces.sample_style))
    target = faces.render(layouts[2], styles[2], SIZE)
    givers = [faces.render(layouts[i], styles[i], SIZE) for i in range(2)]
    may = [givers[0].labels == faces.Part.hair, givers[1].labels != faces.Part.hair]  # what each may give
    matched = match(
        features(target),
        [features(giver) for giver in givers],
        [image(giver) for giver in givers],
        backward=True,
        key_mask=[torch.from_numpy(mask)[None] for mask in may],
    )
    hair = torch.from_numpy(target.labels == faces.Part.hair)
    answers = [image(faces.render(layouts[2], styles[i], SIZE)) for i in range(2)]
    truth = torch.where(hair, answers[0], answers[1])
    seen = [torch.from_numpy(correspondence(target, giver).visible) for giver in givers]
    known = torch.where(hair, seen[0], seen[1])
    assert known.float().mean() > 0.5

    right_giver = torch.where(hair, matched.share[0, 0], matched.share[0, 1])[known]
    assert right_giver.mean() > 0.97
    error, naive = ((warp - truth).abs()[..., known].mean() for warp in (matched.warp, image(givers[1])))
    assert error < 0.06 and error < 0.4 * naive

    for index, mine in enumerate((hair & seen[0], ~hair & seen[1])):
        place = torch.from_numpy(correspondence(target, givers[index]).coordinates)
        distance = (matched.forward_maps[index][0] - place).norm(dim=0)[mine]
        assert distance.median() < CELL  # end-point error below one cell
    trusted = match_confidence(matched, 0.01)[0, 0]
    assert trusted[known].mean() > 0.9 and trusted[known].mean() > trusted[~known].mean()
