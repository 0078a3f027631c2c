"""Autoencoders against what is known exactly: principal components, posterior means, and who may be sampled."""

import copy

import pytest
import torch
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from torch import nn

from gencourse.checks import assert_every_parameter_learns
from gencourse.kinds import GenerativeModel
from gencourse.space import Space
from gencourse.train import fit
from gencourse.variational.autoencoder import Autoencoder, ConvAutoencoder, WithDensity
from gencourse.variational.classifier_head import Classifier
from gencourse.variational.corruption import Blanking, GaussianNoise

IMAGES = Space((1, 4, 4), 5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=12, space=IMAGES):
    return torch.randint(space.levels, (n, *space.shape), generator=seeded())


def minimise(loss, parameters, rounds=60):
    optimizer = torch.optim.LBFGS(
        list(parameters),
        max_iter=100,
        history_size=50,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-8,
        tolerance_change=1e-16,
    )

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    for _ in range(rounds):
        optimizer.step(closure)


# --- the loss and the scales ---


def test_the_error_is_summed_over_pixels_of_images_in_minus_one_to_one():
    model = Autoencoder(IMAGES, latent=2, hidden=())
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()  # every reconstruction is 0, the middle grey
    x = torch.zeros(2, 1, 4, 4, dtype=torch.long)
    x[1, 0, 0, 0], x[1, 0, 0, 1] = 2, 3  # in [-1, 1] 0 and 0.5
    assert model.squared_error(x).tolist() == [16, 14.25]
    assert model.decode(torch.zeros(3, 7, 2)).tolist() == torch.full((3, 7, 1, 4, 4), 2.0).tolist()
    assert model.reconstruct(x).tolist() == torch.full((2, 1, 4, 4), 2).tolist()


@pytest.mark.parametrize("make", [Autoencoder, ConvAutoencoder])
def test_a_reconstruction_is_the_nearest_image_to_the_decoded_code(make):
    torch.manual_seed(0)
    model, x = make(IMAGES, latent=3), pictures()
    levels = model.decode(model.encode(x))
    assert model.encode(x).shape == (12, 3)
    assert torch.equal(model.reconstruct(x), levels.clamp(0, 4).round().long())
    error = ((levels - x) / 2).square().flatten(1).sum(1)  # five levels over [-1, 1] are a half apart
    assert torch.allclose(model.squared_error(x), error, rtol=1e-5)


def test_points_keep_their_scale():
    model = Autoencoder(Space((3,)), latent=2, hidden=(5,)).double()
    x = torch.randn(6, 3, dtype=torch.float64, generator=seeded())
    y = model.decode(model.encode(x))
    assert torch.equal(model.reconstruct(x), y)
    assert torch.allclose(model.squared_error(x), (x - y).square().sum(1), rtol=1e-12)


@pytest.mark.parametrize(
    "model",
    [
        Autoencoder(IMAGES, latent=3, hidden=(8,), activation=nn.Tanh),
        ConvAutoencoder(IMAGES, latent=3, width=4),
        Autoencoder(Space((3,)), latent=2, hidden=()),
    ],
    ids=["mlp", "conv", "linear"],
)
def test_every_parameter_learns(model):
    model.double()
    x = pictures() if model.space.is_discrete else torch.randn(12, 3, dtype=torch.float64)
    assert_every_parameter_learns(model, x)


# --- exact optima ---


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(0)
    x = torch.randn(200, 6, dtype=torch.float64) * torch.tensor([3.0, 2.0, 1.5, 0.7, 0.4, 0.2]).double()
    x = x @ torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q + torch.randn(6, dtype=torch.float64)
    model = Autoencoder(Space((6,)), latent=2, hidden=()).double()
    minimise(lambda: model.squared_error(x).mean(), model.parameters(), rounds=5)
    return model, x


@torch.no_grad()
def test_a_linear_autoencoder_loses_the_sum_of_the_dropped_eigenvalues(linear):
    model, x = linear
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0))  # ascending
    assert float(model.squared_error(x).mean()) == pytest.approx(float(eigenvalues[:-2].sum()), rel=1e-8)


@torch.no_grad()
def test_a_linear_autoencoder_projects_on_the_principal_subspace_but_its_weights_are_no_principal_axes(linear):
    model, x = linear
    axes = torch.linalg.eigh(torch.cov(x.T, correction=0)).eigenvectors[:, -2:]  # (6, 2)
    basis = torch.eye(6, dtype=torch.float64)
    origin = model.decode(model.encode(torch.zeros(1, 6, dtype=torch.float64)))
    projector = model.decode(model.encode(basis)) - origin
    assert torch.allclose(projector, axes @ axes.T, rtol=0, atol=1e-4)
    assert torch.allclose(model.decode(model.encode(x.mean(0, keepdim=True))), x.mean(0, keepdim=True), rtol=0, atol=1e-4)
    encoder = model.encoder[-1].weight
    assert float((encoder @ encoder.T)[0, 1].abs()) > 1e-3  # not orthogonal


def test_a_denoising_autoencoder_gives_the_mean_of_what_the_damaged_image_may_have_been():
    """All four patterns of two pixels that may be blanked, equally likely, on four images: the optimum is E[x | damaged x]."""
    torch.manual_seed(0)
    images = torch.tensor([[1, 1], [1, 1], [0, 1], [0, 0]]).view(4, 1, 1, 2)
    kept = torch.cartesian_prod(torch.tensor([0, 1]), torch.tensor([0, 1])).bool().view(4, 1, 1, 1, 2)
    x = images.expand(4, 4, 1, 1, 2).reshape(16, 1, 1, 2)
    mask = kept.expand(4, 4, 1, 1, 2).reshape(16, 1, 1, 2)
    space = Space((1, 1, 2), 2)
    damage = lambda y: torch.where(mask, y, -1.0)  # noqa: E731
    model = Autoencoder(space, latent=2, hidden=(16,), activation=nn.Tanh, corrupt=damage).double()
    (move,) = model.moves()
    minimise(lambda: move.loss(x, None).mean(), model.parameters(), rounds=10)
    # nothing seen: of 16 pairs, black comes from (1,1) twice in 4 patterns 1 each, (0,1) in 2 of 4, (0,0) in 4 of 4
    weights = torch.tensor([1.0, 1.0, 2.0, 4.0], dtype=torch.float64) / 8
    black = (weights.view(4, 1) * images.view(4, 2).double()).sum(0)
    first = torch.tensor([1.0, 1.0], dtype=torch.float64)  # the first pixel is white in (1, 1) only
    second = torch.tensor([0.5, 1.0], dtype=torch.float64)  # second seen alone: (1,1) twice in 1 of 4 patterns, (0,1) in 2 of 4
    seen = torch.tensor([[0, 0], [1, 0], [0, 1]]).view(3, 1, 1, 2)
    with torch.no_grad():
        y = model.decode(model.encode(seen)).view(3, 2)
    assert torch.allclose(y, torch.stack([black, first, second]), rtol=0, atol=2e-3)


# --- the networks of slide 38 ---


@pytest.mark.parametrize(
    ("shape", "strides", "smallest"),
    [
        ((1, 8, 8), [1, 1, 2, 2], (2, 2)),
        ((1, 28, 28), [1, 1, 2, 2], (7, 7)),
        ((3, 32, 32), [2, 2, 2, 2], (2, 2)),
        ((1, 64, 64), [2, 2, 2, 2], (4, 4)),
        ((1, 28, 20), [1, 1, 2, 2], (7, 5)),
        ((1, 3, 3), [1, 1, 1, 1], (3, 3)),
    ],
)
def test_four_convolutions_down_and_four_fractionally_strided_up(shape, strides, smallest):
    model = ConvAutoencoder(Space(shape, 7), latent=3, width=2)
    down = [m for m in model.encoder if isinstance(m, nn.Conv2d)]
    up = [m for m in model.decoder if isinstance(m, nn.ConvTranspose2d)]
    assert [m.stride[0] for m in down] == strides
    assert [m.stride[0] for m in up] == strides[::-1]
    assert [(m.in_channels, m.out_channels) for m in up] == [(m.out_channels, m.in_channels) for m in down[::-1]]
    assert model.encoder[-1].in_features == down[-1].out_channels * smallest[0] * smallest[1]
    x = torch.randint(7, (2, *shape))
    assert model.decode(model.encode(x)).shape == x.shape


# --- damage ---


def test_blanking_blackens_its_share_and_leaves_the_rest():
    y = torch.rand(400, 1, 10, 10, generator=seeded())
    damaged = Blanking(0.3)(y, generator=seeded(1))
    black = damaged == -1
    assert float(black.double().mean()) == pytest.approx(0.3, abs=4 * (0.21 / y.numel()) ** 0.5)
    assert torch.equal(damaged[~black], y[~black])
    assert torch.equal(damaged, Blanking(0.3)(y, generator=seeded(1)))
    assert (Blanking(0.5, value=0.0)(y) == 0).any()


def test_gaussian_noise_has_its_standard_deviation_and_no_mean():
    y = torch.rand(400, 1, 10, 10, generator=seeded(), dtype=torch.float64)
    noise = GaussianNoise(0.5)(y, generator=seeded(1)) - y
    assert float(noise.std()) == pytest.approx(0.5, rel=4 / (2 * noise.numel()) ** 0.5)
    assert abs(float(noise.mean())) < 4 * 0.5 / noise.numel() ** 0.5


def test_only_training_sees_damage():
    torch.manual_seed(0)
    clean = Autoencoder(IMAGES, latent=3, hidden=(8,))
    damaging = copy.deepcopy(clean)
    damaging.corrupt = Blanking(0.9)
    x = pictures()
    assert torch.equal(damaging.squared_error(x), clean.squared_error(x))
    assert torch.equal(damaging.encode(x), clean.encode(x))
    (trained,), (other,) = (m.moves() for m in (damaging, clean))
    assert torch.equal(other.loss(x, None), clean.squared_error(x))
    assert not torch.allclose(trained.loss(x, None), clean.squared_error(x))


# --- no distribution, and one afterwards ---


@pytest.mark.parametrize("make", [Autoencoder, ConvAutoencoder])
def test_an_autoencoder_is_no_generative_model_and_says_so(make):
    model = make(IMAGES, latent=2)
    assert not isinstance(model, GenerativeModel)
    with pytest.raises(TypeError, match=r"has no distribution over its codes, so it cannot be sampled"):
        model.sample(3)


@pytest.mark.parametrize("density", [GaussianMixture(1), KernelDensity(bandwidth=0.1)], ids=["mixture", "kernel"])
def test_a_density_on_the_codes_is_sampled_and_decoded(density):
    torch.manual_seed(0)
    x = torch.randn(2000, 2, dtype=torch.float64) @ torch.tensor([[2.0, 1.0], [0.0, 0.5]]).double() + 3
    model = Autoencoder(Space((2,)), latent=2, hidden=()).double()
    with torch.no_grad():  # z = 2x, and back again
        for p, value in zip(model.parameters(), (2 * torch.eye(2), 0, torch.eye(2) / 2, 0), strict=True):
            p.copy_(torch.as_tensor(value))
    both = WithDensity(model, x, density)
    drawn = both.sample(20_000, generator=seeded())
    assert torch.allclose(drawn.mean(0), x.mean(0), atol=0.06)
    assert torch.allclose(torch.cov(drawn.T), torch.cov(x.T), atol=0.15)
    assert torch.equal(drawn[:5], both.sample(20_000, generator=seeded())[:5])
    assert not torch.equal(both.sample(5, generator=seeded(1)), both.sample(5, generator=seeded(2)))
    assert both.sample(0).shape == (0, 2)


def test_draws_of_a_mixture_come_in_no_order():
    x = torch.cat([torch.full((50, 1), -5.0), torch.full((50, 1), 5.0)]) + 0.1 * torch.randn(100, 1, generator=seeded())
    model = Autoencoder(Space((1,)), latent=1, hidden=())
    with torch.no_grad():
        for p, value in zip(model.parameters(), (1.0, 0.0, 1.0, 0.0), strict=True):
            p.fill_(value)
    drawn = WithDensity(model, x, GaussianMixture(2, random_state=0)).sample(200, generator=seeded())
    assert 25 < int((drawn[:100] > 0).sum()) < 75


def test_a_density_that_cannot_be_fitted_or_trained_is_told():
    model = Autoencoder(IMAGES, latent=2)
    with pytest.raises(TypeError, match="fit and sample"):
        WithDensity(model, pictures(), object())
    with pytest.raises(TypeError, match="train the autoencoder first"):
        WithDensity(model, pictures(), GaussianMixture(1)).moves()


# --- a classifier on the encoder ---


def trained(autoencoder, **options):
    x = pictures(40)
    labels = (x.flatten(1).double().mean(1) > 2).long()
    torch.manual_seed(3)
    classifier = Classifier(autoencoder, classes=2, **options)
    fit(
        classifier,
        (x, labels),
        steps=30,
        batch_size=40,
        lr=0.03,
        optimizer=torch.optim.AdamW,
        device="cpu",
        progress=False,
    )
    return classifier, x, labels


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def differences(before, module):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def test_a_frozen_encoder_stays_bit_for_bit_with_its_batch_norm_statistics():
    torch.manual_seed(0)
    autoencoder = ConvAutoencoder(IMAGES, latent=3, width=2, norm=nn.BatchNorm2d)
    fit(autoencoder, pictures(40), steps=10, batch_size=20, device="cpu", progress=False)  # statistics of its own
    before = state(autoencoder.encoder)
    assert any("running" in name for name in before)
    classifier, x, labels = trained(autoencoder, frozen=True)
    assert differences(before, classifier.encoder) == set()
    assert classifier.train().training
    assert not any(module.training for module in classifier.encoder.modules())
    assert classifier.accuracy(x, labels) > 0.5


def test_fine_tuning_changes_the_copy_and_not_the_autoencoder():
    torch.manual_seed(0)
    autoencoder = ConvAutoencoder(IMAGES, latent=3, width=2, norm=nn.BatchNorm2d)
    before = state(autoencoder)
    classifier, _, _ = trained(autoencoder)
    assert differences(before, autoencoder) == set()
    changed = differences(state(autoencoder.encoder), classifier.encoder)
    assert any("running_mean" in name for name in changed)
    assert {name for name, _ in classifier.encoder.named_parameters()} <= changed


def test_logits_are_the_softmax_layer_of_the_code_and_accuracy_counts():
    torch.manual_seed(0)
    autoencoder = Autoencoder(IMAGES, latent=3, hidden=(8,))
    classifier, x, labels = trained(autoencoder, frozen=True)
    logits = autoencoder.encode(x) @ classifier.head.weight.T + classifier.head.bias
    assert torch.allclose(classifier.logits(x), logits, atol=1e-6)
    assert classifier.accuracy(x, labels) == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    (move,) = classifier.moves()
    log_p = torch.log_softmax(logits, dim=1)[torch.arange(40), labels]
    assert torch.allclose(move.loss(x, labels), -log_p, atol=1e-6)


def test_wrong_calls_are_told():
    model = Autoencoder(IMAGES, latent=2)
    with pytest.raises(TypeError, match="Classifier needs an Autoencoder"):
        Classifier(nn.Linear(2, 2), classes=2)
    with pytest.raises(ValueError, match="classes must be an integer of 2 or more"):
        Classifier(model, classes=1)
    with pytest.raises(ValueError, match="learns from labels"):
        Classifier(model, classes=2).moves()[0].loss(pictures(), None)
    with pytest.raises(ValueError, match="learns without labels"):
        model.moves()[0].loss(pictures(), torch.zeros(12))
    with pytest.raises(ValueError, match="corrupt must be a function"):
        Autoencoder(IMAGES, corrupt=0.3)
    with pytest.raises(ValueError, match="needs images of integers"):
        ConvAutoencoder(Space((3,)))
    for make in (Autoencoder, ConvAutoencoder):
        with pytest.raises(TypeError, match=r"expects a gencourse.space.Space first"):
            make((1, 8, 8))
    with pytest.raises(ValueError, match="share must be a probability"):
        Blanking(1.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("make", [Autoencoder, ConvAutoencoder])
def test_other_weights_work(make, dtype):
    model = make(IMAGES, latent=2, corrupt=Blanking(0.3)).to(dtype)
    x = pictures()
    wide = torch.float32 if dtype == torch.bfloat16 else dtype
    assert model.squared_error(x).dtype == model.encode(x).dtype == model.decode(model.encode(x)).dtype == wide
    assert model.moves()[0].loss(x, None).dtype == wide
    assert Classifier(model, classes=3).logits(x).dtype == wide
