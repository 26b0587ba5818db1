import pytest
import torch
from torch import nn

from factory.seeds import seeded
from factory.vision.resnet import ResNet

NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet_attention")


def build(network, *, stem="small", width=8, channels=3, seed=0):
    with seeded(seed):
        return ResNet(network, stem=stem, width=width, channels=channels)


def images(num_images=2, *, channels=3, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_images, channels, side, side, generator=generator) * 2 - 1


def disturb(network):
    """Give every norm its own scale and statistics: fresh ones hide what they multiply."""
    with seeded(1), torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 1.5)
    return network.eval()


# torchvision's published totals, less the last layer of 1,000 classes.
@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        ("resnet18", 11_689_512 - 513_000),
        ("resnet34", 21_797_672 - 513_000),
        ("resnet50", 25_557_032 - 2_049_000),
    ],
)
def test_resnet_has_as_many_parameters_as_published(network, parameters):
    with torch.device("meta"):
        resnet = ResNet(network, stem="imagenet", width=64, channels=3)
    assert sum(p.numel() for p in resnet.parameters()) == parameters


@pytest.mark.parametrize(
    ("network", "kind", "depths", "sizes"),
    [
        ("resnet18", "basic", [2, 2, 2, 2], [8, 16, 32, 64]),
        ("resnet50", "bottleneck", [3, 4, 6, 3], [32, 64, 128, 256]),
    ],
)
def test_resnet_with_the_weights_of_another_implementation_agrees(network, kind, depths, sizes):
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=sizes, depths=depths, layer_type=kind)
    with seeded(0):
        theirs = disturb(ResNetModel(config))
    ours = build(network, stem="imagenet").eval()

    def parts(*modules):
        kinds = (nn.Conv2d, nn.BatchNorm2d)
        return [part for module in modules for part in module.modules() if isinstance(part, kinds)]

    pairs = list(zip(parts(ours.stem), parts(theirs.embedder), strict=True))
    for stage, reference in zip(ours.stages, theirs.encoder.stages, strict=True):
        for block, other in zip(stage, reference.layers, strict=True):
            mine = parts(block.branch, block.shortcut)
            pairs += zip(mine, parts(other.layer, other.shortcut), strict=True)
    for part, other in pairs:
        part.load_state_dict(other.state_dict())
    x = images(side=64)
    with torch.inference_mode():
        expected = theirs(x)
        rounding = 1e-5 * float(expected.last_hidden_state.max())
        assert torch.allclose(ours.feature_map(x), expected.last_hidden_state, atol=rounding)
        assert torch.allclose(ours(x), expected.pooler_output.flatten(1), atol=rounding)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("stem", "channels", "side", "places"),
    [("small", 1, 8, 1), ("small", 3, 28, 4), ("imagenet", 1, 8, 1), ("imagenet", 3, 65, 3)],
)
def test_resnet_pools_its_last_map_at_every_size(network, stem, channels, side, places):
    resnet = build(network, stem=stem, channels=channels)
    x = images(channels=channels, side=side)
    seen = resnet.eval().feature_map(x)
    assert seen.shape == (2, resnet.num_features, places, places)
    assert resnet.num_features == 8 * 8 * (4 if network == "resnet50" else 1)
    assert torch.allclose(resnet(x), seen.mean(dim=(2, 3)))


@pytest.mark.parametrize("network", NETWORKS)
def test_untrained_blocks_pass_on_what_they_get(network):
    resnet = build(network, width=16)
    for stage in resnet.stages:
        last = stage[-1]
        channels = next(m for m in last.modules() if isinstance(m, nn.BatchNorm2d)).num_features
        if network == "resnet50":
            channels *= 4
        x = images(channels=channels, side=4).relu()
        assert torch.equal(last(x), x)


def test_attention_lets_every_place_see_every_other():
    attention = build("resnet_attention", width=32).stages[3][-1].eval()
    nn.init.normal_(attention.out.weight)
    x = images(1, channels=256, side=4).requires_grad_()
    (gradient,) = torch.autograd.grad(attention(x)[0, :, 0, 0].square().sum(), x)
    assert (gradient[0].abs().sum(dim=0) > 0).all()
    # It knows no order of places: to permute them is to permute what comes out.
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    moved = x.flatten(2)[:, :, order].view_as(x)
    expected = attention(x).flatten(2)[:, :, order].view_as(x)
    assert torch.allclose(attention(moved), expected, atol=1e-4)


def test_group_norm_keeps_an_image_apart_from_its_batch_mates():
    with seeded(0):
        network = ResNet("resnet18", stem="small", width=4, channels=1, norm="group").train()
        mixed = ResNet("resnet18", stem="small", width=4, channels=1).train()
        x = torch.randn(6, 1, 16, 16)
    assert torch.allclose(network(x)[:2], network(x[:2]), atol=1e-5)
    assert not torch.allclose(mixed(x)[:2], mixed(x[:2]), atol=1e-2)


@pytest.mark.parametrize("network", ["resnet18", "resnet50"])
def test_narrow_network_has_the_same_gradients_in_both_memory_formats(network):
    def gradients(memory_format):
        resnet = disturb(build(network, width=2)).to(memory_format=memory_format)
        resnet(images(4, side=16).to(memory_format=memory_format)).square().sum().backward()
        return [weight.grad for weight in resnet.parameters()]

    pairs = zip(gradients(torch.contiguous_format), gradients(torch.channels_last), strict=True)
    for one, other in pairs:
        assert torch.allclose(one, other, rtol=0, atol=1e-3 * float(one.abs().max()))
