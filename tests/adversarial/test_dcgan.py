"""The DCGAN's networks keep the paper's rules, for every size, and learn."""

import pytest
import torch
from torch import nn

from gencourse.adversarial.dcgan import DCGAN, RECIPES, sides, trained_on_faces
from gencourse.data.faces import faces
from gencourse.space import Space
from gencourse.train import fit

SPACES = [Space((1, 8, 8), 17), Space((1, 28, 28), 256), Space((3, 32, 32), 256), Space((1, 28, 20), 256), Space((1, 64, 64), 2)]


def small(space, **options):
    torch.manual_seed(0)
    return DCGAN(space, **{"latent": 6, "width": 4} | options)


@pytest.mark.parametrize(
    ("shape", "base", "expected"),
    [
        ((1, 64, 64), 4, [64, 32, 16, 8, 4]),
        ((3, 32, 32), 4, [32, 16, 8, 4]),
        ((1, 28, 28), 4, [28, 14, 7]),
        ((1, 8, 8), 4, [8, 4]),
        ((1, 8, 8), 2, [8, 4, 2]),
        ((1, 12, 12), 4, [12, 6]),
    ],
)
def test_sides_are_halved_while_they_are_even_and_large_enough(shape, base, expected):
    assert sides(Space(shape, 256), base) == [(side, side) for side in expected]
    model = small(Space(shape, 256), base=base)
    maps = model.discriminator.maps(torch.zeros(2, *shape))
    assert [tuple(m.shape) for m in maps] == [(2, 4 * 2**i, s, s) for i, s in enumerate(expected[1:])]


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("classes", [None, 3])
def test_samples_are_of_the_space_and_every_parameter_learns(space, classes):
    model = small(space, classes=classes)
    labels = torch.tensor([0, 1, 2, 0]) if classes else None
    x = model.sample(4, labels, generator=torch.Generator().manual_seed(1))
    space.validate(x)
    for move in model.moves():
        gradients = torch.autograd.grad(move.loss(x, labels).mean(), move.learns)
        assert all(float(g.abs().max()) > 0 for g in gradients), move.name


def test_the_papers_rules():
    model = small(Space((3, 32, 32), 256), width=8)
    generator, discriminator = list(model.generator.net), list(model.discriminator.modules())
    strided = [m for m in generator[1:] if isinstance(m, nn.ConvTranspose2d)]
    assert all(m.stride == (2, 2) and m.kernel_size[0] % m.stride[0] == 0 for m in strided)  # no checkerboard from overlaps
    assert isinstance(generator[-1], nn.Tanh) and sum(isinstance(m, nn.ReLU) for m in generator) == 3
    for network in (generator, discriminator):
        assert not any(isinstance(m, nn.Linear | nn.MaxPool2d | nn.AvgPool2d | nn.Dropout) for m in network)
    # batch norm after every layer but the generator's last and the discriminator's first and last
    assert sum(isinstance(m, nn.BatchNorm2d) for m in generator) == 3 and not isinstance(generator[-2], nn.BatchNorm2d)
    blocks = model.discriminator.blocks
    assert [any(isinstance(m, nn.BatchNorm2d) for m in block) for block in blocks] == [False, True, True]
    assert all(m.negative_slope == 0.2 for m in discriminator if isinstance(m, nn.LeakyReLU))
    weights = torch.cat([m.weight.flatten() for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)])
    n = len(weights)
    assert abs(weights.mean()) < 5 * 0.02 / n**0.5  # five standard errors of the mean, and of the standard deviation
    assert abs(weights.std() - 0.02) < 5 * 0.02 / (2 * n) ** 0.5
    (group,) = model.moves()[1].optimizer(model.generator.parameters(), lr=2e-4).param_groups
    assert group["betas"][0] == 0.5


def test_a_label_chooses_the_image_and_the_logit():
    model = small(Space((1, 8, 8), 17), classes=3)
    z = model.draw_latent(1).expand(3, -1)
    images = model.generator(z, torch.eye(3))
    logits = model.discriminator(torch.zeros(3, 1, 8, 8), torch.eye(3))
    assert (images[0] != images[1]).any() and (images[1] != images[2]).any()
    assert logits.unique().numel() == 3


def test_features_are_the_pooled_maps_of_each_image_alone():
    space = Space((1, 32, 32), 256)
    model = small(space)
    x = torch.randint(0, 256, (5, 1, 32, 32), generator=torch.Generator().manual_seed(2))
    features = model.discriminator_features(x)
    assert features.shape == (5, (4 + 8 + 16) * 4 * 4)
    assert model.training and not features.requires_grad
    assert torch.allclose(model.discriminator_features(x[2:3]), features[2:3], atol=1e-6)
    with model.evaluation():
        maps = model.discriminator.maps(model.centred(x))
    assert torch.equal(features[:, :64].view(5, 4, 4, 4), maps[0].unfold(2, 4, 4).unfold(3, 4, 4).amax(dim=(4, 5)))
    assert torch.equal(features[:, -256:].view(5, 16, 4, 4), maps[-1])


def test_settled_statistics_are_those_of_the_layers_inputs():
    """After `settle` the samples of evaluation mode are those that the batch of all draws gives with its own statistics."""
    model = small(Space((1, 8, 8), 17), width=8, base=2)
    with torch.no_grad():
        for norm in (m for m in model.generator.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.fill_(7.0), norm.running_var.fill_(50.0)  # as far off as those of other weights
    z = model.draw_latent(400, generator=torch.Generator().manual_seed(3))
    model.train()
    with torch.no_grad():
        own = model.generator(z[:200])
    model.settle(200, generator=torch.Generator().manual_seed(3))
    model.eval()
    # one batch of 200 is what settle saw; evaluation divides by the unbiased variance, training by the biased: 1 - 1/3200
    assert torch.allclose(model.generator(z[:200]), own, atol=2e-3)
    assert all(m.momentum == 0.1 for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    for training in (True, False):  # each module keeps the mode that it had
        model.train(training).settle(20)
        assert all(module.training is training for module in model.modules())


def test_it_learns_what_a_label_means():
    """Label 0 is a black image and label 1 one with a white upper half; after 150 rounds nearly every sample is right."""
    space = Space((1, 8, 8), 17)
    labels = torch.arange(64) % 2
    x = torch.zeros(64, 1, 8, 8, dtype=torch.uint8)
    x[labels == 1, :, :4] = 16
    model = small(space, latent=8, width=16, classes=2)
    fit(model, (x, labels), steps=150, batch_size=32, lr=1e-3, seed=0, device="cpu", progress=False)
    asked = torch.arange(200) % 2
    samples = model.sample(200, asked, generator=torch.Generator().manual_seed(4)).double() / 16
    top, bottom = samples[:, 0, :4].mean(dim=(1, 2)), samples[:, 0, 4:].mean(dim=(1, 2))
    right = ((top - asked).abs() < 0.3) & (bottom < 0.3)
    assert right.double().mean() > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DCGAN(Space((2,))), r"GAN\(space\) is for points"),
        (lambda: DCGAN(Space((64,), 2)), r"images \(C, H, W\)"),
        (lambda: DCGAN(Space((1, 9, 9), 2)), "even and 8 or more, not 9x9"),
        (lambda: DCGAN(Space((1, 6, 6), 2)), "even and 8 or more, not 6x6"),
        (lambda: small(Space((1, 8, 8), 17), classes=2).sample(3), "needs labels"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_model_that_comes_with_the_package_draws_faces():
    """Its samples are of the faces' space, have the faces' mean image to a tenth of the range, and as much spread."""
    model, run = trained_on_faces()
    recipe = next(recipe for recipe in RECIPES if recipe.name == run["recipe"])
    assert recipe.options == run["options"] and recipe.fit == {k: v for k, v in run["fit"].items() if k != "seed"}
    assert not model.training
    x = model.sample(400, generator=torch.Generator().manual_seed(0)).double()
    truth = faces(32, n=500).train.double()
    assert (x.mean(0) - truth.mean(0)).abs().mean() < 0.1 * 255
    assert x.std(0).mean() == pytest.approx(float(truth.std(0).mean()), rel=0.2)


def test_units_are_rectified_in_the_generator_and_leaky_in_the_discriminator():
    model = DCGAN(Space((1, 16, 16), 17), width=4)
    of_generator = {type(m) for m in model.generator.modules() if "ReLU" in type(m).__name__}
    assert of_generator == {torch.nn.ReLU}
    leaky = [m for m in model.discriminator.modules() if "ReLU" in type(m).__name__]
    assert len(leaky) == len(model.discriminator.blocks) == 2
    assert all(m(torch.tensor(-1.0)).item() == pytest.approx(-0.2) for m in leaky)
