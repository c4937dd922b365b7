"""FID and KID: the arithmetic against its references, the network against torch-fidelity, on random weights."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from midms.metrics.fidelity import (
    InceptionFeatures,
    Moments,
    feature_moments,
    frechet_distance,
    frechet_distance_at_infinity,
    frechet_distance_of_features,
    inception_input,
    kernel_distance,
)


def features(seed: int, count: int = 300, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32) ** 2


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A random Inception file in torch-fidelity's layout."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="needs the extra [metrics]")
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    extractor = module.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractor, "load_state_dict", lambda self, state: None)
        network = extractor("random", ["2048"], feature_extractor_weights_path=str(path))
    state = {k: v * 6**0.5 if k.endswith("conv.weight") else v for k, v in network.state_dict().items()}  # He's scale
    torch.save(state, path)
    return path


def test_moments_in_blocks_are_those_of_the_whole():
    x = features(0)
    moments = feature_moments(np.array_split(x, 7))
    np.testing.assert_allclose(moments.mean, x.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="at least 2"):
        feature_moments([x[:1]])


def test_frechet_distance_of_diagonal_gaussians():
    first = Moments(np.array([1.0, 2.0]), np.diag([4.0, 9.0]))
    second = Moments(np.array([0.0, 2.0]), np.diag([1.0, 0.0]))
    assert frechet_distance(first, second) == pytest.approx(1 + (2 - 1) ** 2 + 3**2)
    with pytest.raises(ValueError, match="do not compare"):
        frechet_distance(first, Moments(np.zeros(3), np.eye(3)))


def test_frechet_distance_equals_torch_fidelity():
    metric = pytest.importorskip("torch_fidelity.metric_fid", reason="needs the extra [metrics]")
    a, b = features(0), features(1) * 1.2
    statistics = [metric.fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
    want = metric.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(feature_moments([a]), feature_moments([b])) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("count", [5, 40])
def test_both_forms_of_the_frechet_distance_agree(count):
    a, b = features(0, count), features(1, count + 3) * 1.3
    want = frechet_distance(feature_moments([a]), feature_moments([b]))
    assert frechet_distance_of_features(a, b) == pytest.approx(want, rel=1e-6)
    assert frechet_distance_of_features(a, a) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance_of_features(a, b[:1])


def test_two_halves_of_one_distribution_are_near_and_noise_moves_them_apart():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 4000, 16))
    noisy = [second + scale * rng.standard_normal(second.shape) for scale in (0.5, 1.0)]
    near, less, more = (frechet_distance(*(feature_moments([x]) for x in (first, y))) for y in (second, *noisy))
    assert 0 < near < 0.2 * less < 0.1 * more


def test_fid_at_infinity_is_nearer_to_the_truth_than_fid():
    """Gaussians whose distance is known: 4 = |mu1 - mu2|^2; the finite set adds about the trace / N."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(20000, 16))
    few = rng.normal(size=(300, 16)) + 0.5
    plain = frechet_distance(feature_moments([few]), feature_moments([real]))
    got = frechet_distance_at_infinity(few, real)
    assert abs(got.value - 4) < abs(plain - 4) and got.slope > 0
    assert got.sizes[0] == 100 and got.sizes[-1] == 300
    assert got == frechet_distance_at_infinity(few, real)


def test_fid_at_infinity_of_sets_smaller_than_their_features():
    rng = np.random.default_rng(0)
    real, few = rng.normal(size=(40, 64)), rng.normal(size=(30, 64))
    got = frechet_distance_at_infinity(few, real)
    assert np.isfinite(got.value) and got.value < frechet_distance_of_features(few, real)
    with pytest.raises(ValueError, match="at least 6 generated images, got 5"):
        frechet_distance_at_infinity(few[:5], real)


def test_kernel_distance_tells_sets_apart_and_shrinks_its_subsets():
    pytest.importorskip("torch_fidelity", reason="needs the extra [metrics]")
    near, far = kernel_distance(features(0), features(1)), kernel_distance(features(0), features(1) + 1)
    assert near.subset_size == 300 and abs(near.mean) < far.mean
    with pytest.raises(ValueError, match="at least 2"):
        kernel_distance(features(0, 1), features(1))


def test_the_network_equals_torch_fidelity(weights):
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="needs the extra [metrics]")
    images = torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    reference = module.FeatureExtractorInceptionV3("reference", ["2048"], feature_extractor_weights_path=str(weights))
    (want,) = reference(images)
    got = InceptionFeatures(weights, "torch-fidelity")(images)
    assert want.std() > 1e-3
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    paper = InceptionFeatures(weights, "paper")(images)
    assert paper.shape == (2, 2048) and not torch.allclose(paper, want, rtol=1e-3)


def test_the_paper_protocol_equals_pytorch_fid(weights, tmp_path, monkeypatch):
    """Same file of weights, same JPEG files: the features, and so the FID, of the tool that the field's tables used."""
    fid_score = pytest.importorskip("pytorch_fid.fid_score", reason="needs the package pytorch-fid")
    from pytorch_fid.inception import InceptionV3

    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    shutil.copy(weights, checkpoints / "pt_inception-2015-12-05-6726825d.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{index}.jpg" for index in range(3)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(file, quality=75)
    reference = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    want = fid_score.get_activations([str(file) for file in files], reference, 2, 2048, "cpu", num_workers=0)
    images = torch.stack([torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) for file in files])
    got = InceptionFeatures(weights, "paper")(images).numpy()
    assert want.std() > 1e-3
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    distances = [frechet_distance_of_features(x[:2], x[1:]) for x in (got, want)]
    assert distances[0] == pytest.approx(distances[1], rel=1e-3)


def test_clean_resizes_with_antialiasing():
    noise = torch.randint(0, 256, (1, 3, 1196, 1196), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    clean, paper = (inception_input(noise, protocol) for protocol in ("clean", "paper"))
    assert clean.shape == paper.shape == (1, 3, 299, 299)
    assert clean.std() < 0.5 * paper.std()
    flat = torch.full((1, 3, 20, 20), 77, dtype=torch.uint8)
    torch.testing.assert_close(inception_input(flat, "clean").unique(), torch.tensor([(77 - 128) / 128]))
    plane = Image.fromarray(noise[0, 1].numpy().astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(clean[0, 1].numpy() * 128 + 128, np.asarray(plane).clip(0, 255), atol=1e-3)


def test_an_absent_file_and_an_unknown_protocol_are_named(tmp_path, monkeypatch, weights):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"weights-inception-2015-12-05-6726825d.pth.*get.*put it there"):
        InceptionFeatures()
    with pytest.raises(ValueError, match="unknown protocol 'fast'"):
        InceptionFeatures(weights, "fast")
