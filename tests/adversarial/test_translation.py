"""What a patch sees, what the U-Net hands across, and pictures of the wrong form."""

import pytest
import torch
from torch import nn

from gencourse.adversarial.translation import PatchDiscriminator, UNet, bookkeeping, l1_error, receptive_field

PATCHES = [((4, 2), (4, 2), (3, 1)), ((4, 2), (3, 1), (3, 1)), ((1, 1), (1, 1)), ((3, 1),), ((4, 2), (1, 1)), ((5, 3), (4, 2))]


@pytest.mark.parametrize("layers", PATCHES, ids=str)
def test_a_logit_depends_on_exactly_its_patch(layers):
    """By gradients: in the middle of a large picture, a square of `receptive_field` pixels a side, and no other pixel."""
    torch.manual_seed(0)
    side = receptive_field(layers)
    net = PatchDiscriminator(2, sides=(64, 64), width=3, layers=layers).double()
    y = torch.randn(1, 2, 64, 64, dtype=torch.float64, requires_grad=True)
    logits = net(y)
    middle = logits[0, logits.shape[1] // 2, logits.shape[2] // 2]
    (gradient,) = torch.autograd.grad(middle, y)
    rows, columns = torch.nonzero(gradient.abs().sum((0, 1)), as_tuple=True)
    assert len(rows) == side**2
    assert int(rows.max() - rows.min()) + 1 == int(columns.max() - columns.min()) + 1 == side


def test_receptive_fields_known_from_the_paper():
    """Isola et al., section 4.4: patches of 1, 16, 70 and 286 pixels."""
    fields = [receptive_field(((4, 2),) * n + ((4, 1), (4, 1))) for n in (1, 3, 5)]
    assert [receptive_field(((1, 1),) * 3), *fields] == [1, 16, 70, 286]


def test_a_norm_would_let_every_logit_see_the_whole_picture():
    net = PatchDiscriminator(1, sides=(32, 32), width=4, layers=((3, 1), (3, 1)))
    wide = nn.Sequential(net.net[0], nn.InstanceNorm2d(4), *net.net[1:])
    y = torch.randn(1, 1, 32, 32, requires_grad=True)
    seen = [int((torch.autograd.grad(f(y)[0, 0, 16, 16], y)[0] != 0).sum()) for f in (net.net, wide)]
    assert seen[0] == 25
    assert seen[1] > 1000


def test_the_u_net_is_as_its_bookkeeping_says():
    sizes = {"sides": (16, 24), "widths": (3, 5, 6), "latent": 2}
    net, rows = UNet(1, 4, **sizes), bookkeeping(1, 4, **sizes)
    seen = {}
    for name, layer in net.layers.items():
        layer.register_forward_hook(lambda _, x, y, name=name: seen.update({name: (x[0].shape[1], y.shape[1], (*y.shape[2:],))}))
    out = net(torch.randn(7, 2), torch.randn(7, 1, 16, 24))
    assert out.shape == (7, 4, 16, 24)
    assert out.abs().max() <= 1
    assert seen == {row.name: (row.inputs, row.outputs, row.sides) for row in rows}
    assert [(row.name, row.inputs) for row in rows] == [
        *(("in", 1), ("down 1", 3), ("down 2", 5), ("bottom", 6 + 2)),
        *(("up 2", 6 + 5), ("up 1", 5 + 3), ("out", 3)),
    ]


@pytest.mark.parametrize("kept", ["in", "down 1"])
def test_each_skip_connection_carries(kept):
    """With the bottleneck silenced, the source reaches the picture by the skips alone, and by each of them."""
    torch.manual_seed(0)
    net = UNet(1, 1, sides=(8, 8), widths=(3, 4, 5)).double()

    def cut(name):
        """What a layer hands on becomes a constant."""
        return net.layers[name].register_forward_hook(lambda _, x, y: torch.ones_like(y))

    @torch.no_grad()
    def reaches():
        """How far the pictures of two sources differ."""
        return float((net(None, one) - net(None, other)).abs().max())

    one, other = torch.randn(2, 1, 1, 8, 8, dtype=torch.float64)
    cut("bottom")
    if kept == "down 1":  # what "in" gives still goes down, but is not handed across
        net.layers["up 1"].register_forward_pre_hook(lambda _, x: (torch.cat([x[0][:, :4], torch.ones_like(x[0][:, 4:])], 1),))
    else:
        cut("down 1")
    assert reaches() > 1e-3
    cut(kept)
    assert reaches() == 0


def test_without_skips_a_pixel_is_lost():
    """One pixel more than the bottleneck has numbers for: the derivative of the picture has full rank only with the skips."""
    torch.manual_seed(0)
    net = UNet(1, 1, sides=(8, 8), widths=(2, 2, 1)).double()
    source = torch.randn(1, 1, 8, 8, dtype=torch.float64)

    def rank():
        jacobian = torch.autograd.functional.jacobian(lambda s: net(None, s), source)
        return int(torch.linalg.matrix_rank(jacobian.view(64, 64)))

    assert rank() == 64
    for name, below in (("up 2", 1), ("up 1", 2)):  # channels from below; the others came across
        own = torch.arange(3 if below == 1 else 4) < below
        net.layers[name].register_forward_pre_hook(lambda _, x, own=own: (x[0] * own.view(1, -1, 1, 1),))
    assert rank() <= 4  # the bottleneck: one channel of 2x2


def test_the_noise_enters_at_the_bottleneck():
    torch.manual_seed(0)
    net = UNet(1, 1, sides=(8, 8), widths=(3, 4), latent=2)
    source, z = torch.randn(1, 1, 8, 8).expand(2, -1, -1, -1), torch.randn(2, 2)
    y = net(z, source)
    assert (y[0] != y[1]).all()  # every pixel follows it
    assert torch.equal(net(z[:1].expand(2, -1), source)[0], y[0])


def test_the_l1_error_is_a_mean_over_pixels_and_channels():
    y, x = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    by_hand = [sum(abs(a - b) for a, b in zip(u.flatten(), v.flatten(), strict=True)) / 32 for u, v in zip(y, x, strict=True)]
    assert torch.allclose(l1_error(y, x), torch.stack(by_hand), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: UNet(1, 1, sides=(16, 12), widths=(4, 4, 4, 4)),
            r"halves its pictures 3 times.*these are 16x12; give fewer widths",
        ),
        (lambda: UNet(1, 1, sides=(4, 4), widths=(4, 4, 4)), "down to 2 or more pixels a side"),
        (lambda: UNet(1, 1, sides=(8, 8), widths=()), "U-Net's widths must be"),
        (lambda: receptive_field(((4, 2), (3,))), r"pairs \(kernel, stride\)"),
        (lambda: receptive_field(()), r"pairs \(kernel, stride\)"),
        (lambda: PatchDiscriminator(1, sides=(4, 4), width=4, layers=((4, 2), (4, 2), (4, 2))), "picture is too small"),
        (lambda: PatchDiscriminator(1, sides=(4, 4), width=4, layers=4), r"patch takes convolutions as pairs"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
