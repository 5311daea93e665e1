"""The network: sizes, pooling by spacing, modalities, memory, crops."""

import pytest
import torch

from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig, pool_strides, total_stride
from napari_convlstm_tumor.series import MODALITIES

SMALL = NetworkConfig(channels=(4, 6, 8, 8, 8), hidden=(3, 3, 4, 4))


@pytest.mark.parametrize(
    ("spacing", "expected", "reason"),
    [
        ((1, 1, 1), [(2, 2, 2)] * 4, "cubes are halved along every axis"),
        ((0.9, 0.9, 6.5), [(2, 2, 1)] * 3 + [(2, 2, 2)], "thick slices wait until the plane is as coarse"),
        ((1.5, 1.5, 3.3), [(2, 2, 1)] + [(2, 2, 2)] * 3, "one pooling in the plane first"),
        ((5.0, 0.9, 0.9), [(1, 2, 2)] * 2 + [(2, 2, 2)] * 2, "any axis may be the thick one"),
    ],
)
def test_pooling_follows_the_spacing(spacing, expected, reason):
    assert pool_strides(spacing, 4) == expected, reason
    stride = total_stride(spacing, 4)
    assert stride == tuple(torch.tensor(expected).prod(0).tolist())


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return GrowthNet(SMALL).eval()


def visit(network, shape=(32, 32, 16), spacing=(1, 1, 2), present=("t1c",), state=None, seed=0, **inputs):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(1, len(MODALITIES), *shape, generator=generator)
    return network(
        inputs.get("images", images),
        torch.zeros_like(images),
        [m in present for m in MODALITIES],
        inputs.get("prompt", torch.zeros(1, 4, *shape)),
        pool_strides(spacing, 4),
        state,
        torch.tensor([30.0]),
    )


def test_shapes(network):
    logits, coarse, features, state = visit(network)
    assert logits.shape == (1, 1, 32, 32, 16)
    assert coarse.shape == (1, 1, 16, 16, 16)
    assert features.shape[1] == SMALL.channels[1]
    assert len(state) == 4


def test_an_absent_modality_has_no_influence(network):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, len(MODALITIES), 32, 32, 16, generator=generator)
    other = images.clone()
    other[:, MODALITIES.index("flair")] = 99.0
    torch.testing.assert_close(visit(network, images=images)[0], visit(network, images=other)[0])


def test_what_was_seen_before_matters(network):
    _, _, _, state = visit(network, seed=1)
    fresh, remembered = visit(network, seed=2)[0], visit(network, seed=2, state=state)[0]
    assert (fresh - remembered).abs().max() > 1e-4


def test_a_crop_agrees_with_the_whole_far_from_its_edge():
    torch.manual_seed(0)
    network = GrowthNet(NetworkConfig(channels=(4, 6, 8), hidden=(3, 3))).eval()
    images = torch.randn(1, len(MODALITIES), 96, 32, 32)

    def run(part):
        zeros = torch.zeros_like(part)
        present = [m == "t1c" for m in MODALITIES]
        return network(part, zeros, present, zeros[:, :4], pool_strides((1, 1, 1), 2))[0]

    whole, crop = run(images), run(images[:, :, :80])
    torch.testing.assert_close(whole[:, :, :16], crop[:, :, :16], rtol=1e-3, atol=1e-4)


def test_the_forecast_starts_as_the_regions_mean_speed(network):
    _, _, features, _ = visit(network)
    geometry = torch.zeros(1, 4, 32, 32, 16)
    geometry[:, 2] = 0.4
    speed = network.speed(features, geometry, pool_strides((1, 1, 2), 4)[0])
    torch.testing.assert_close(speed, torch.full_like(speed, 2.0))


def test_the_shipped_size_is_at_most_4_million_parameters():
    assert sum(p.numel() for p in GrowthNet(NetworkConfig()).parameters()) < 4_000_000
