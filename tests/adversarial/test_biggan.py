"""BigGAN's parts are the paper's formulas, and truncation has the moments of a truncated normal."""

import math

import pytest
import torch
from torch import nn

from gencourse import data
from gencourse.adversarial import losses
from gencourse.adversarial.biggan import RECIPES, BigGAN, Embedding, orthogonal_penalty, truncated_normal
from gencourse.adversarial.layers import ConditionalBatchNorm2d, SelfAttention, SpectralNorm
from gencourse.metrics.classifier import scored_classifier
from gencourse.metrics.precision_recall import precision_recall
from gencourse.space import Space
from gencourse.train import fit

SPACE = Space((1, 8, 8), 17)
LABELS = torch.arange(6) % 3


def small(space=SPACE, **options):
    torch.manual_seed(0)
    return BigGAN(space, **{"latent": 7, "width": 6, "d_width": 4, "classes": 3, "base": 2} | options)


def images(n=6, space=SPACE, seed=0):
    return torch.randint(space.levels, (n, *space.shape), generator=torch.Generator().manual_seed(seed))


# --- truncation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("psi", "variance"), [(0.5, 0.0806), (1.0, 0.2911), (2.0, 0.7737)])
def test_truncated_numbers_have_the_variance_of_the_formula_and_do_not_pile_up(psi, variance):
    n = 200_000
    z = truncated_normal((n // 4, 4), psi, generator=torch.Generator().manual_seed(0), dtype=torch.float64).flatten()
    density, inside = math.exp(-(psi**2) / 2) / math.sqrt(2 * math.pi), math.erf(psi / math.sqrt(2))
    exact = 1 - 2 * psi * density / inside
    assert exact == pytest.approx(variance, abs=5e-5)
    assert z.abs().max() <= psi
    error = 5 * z.square().std() / math.sqrt(n)  # five standard errors
    assert abs(z.square().mean() - exact) < error and abs(z.mean()) < 5 * math.sqrt(exact / n)
    edge = 1 - (math.erf(0.99 * psi / math.sqrt(2)) / inside)  # the last hundredth on both sides; clamping would put 32 % there
    share = (z.abs() > 0.99 * psi).double().mean().item()
    assert abs(share - edge) < 5 * math.sqrt(edge / n)


def test_no_truncation_is_the_normal_itself_and_a_large_one_nearly():
    draws = [truncated_normal((50, 3), psi, generator=torch.Generator().manual_seed(1)) for psi in (None, 50.0)]
    assert torch.equal(*draws)
    assert torch.equal(draws[0], torch.randn(50, 3, generator=torch.Generator().manual_seed(1)))


def test_a_truncated_sample_uses_the_statistics_of_its_truncation_and_leaves_the_model_as_it_was():
    model = small(width=16)
    model.settle()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    a, b = (model.sample(6, LABELS, truncation=0.5, generator=torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(a, b)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    z = model.draw_latent(6, truncation=0.5, generator=torch.Generator().manual_seed(2))
    assert z.abs().max() <= 0.5
    stale = model.generate(z, LABELS)
    model.settle(truncation=0.5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.generate(z, LABELS), a)
    assert not torch.equal(stale, a)
    norm = model.generator.blocks[0].norms[0].norm
    whole = before["generator.blocks.0.norms.0.norm.running_var"]
    assert (norm.running_var < whole).all()  # less of z's variance reaches it


# --- conditioning -----------------------------------------------------------------------------------------------------


def test_pieces_of_z_make_up_z_and_each_goes_to_one_block():
    model = small()
    assert model.generator.pieces == [3, 2, 2]
    seen = []
    for block in model.generator.blocks:
        block.register_forward_hook(lambda _, given, out: seen.append((given[1], out)))
    model.eval()
    z = model.draw_latent(2)
    other = z.clone()
    other[:, 5:] += 1
    one_hot = torch.eye(3)[[0, 1]]
    images = [model.generator(values, one_hot) for values in (z, other)]
    (told1, out1), (told2, out2), (_, again1), (_, again2) = seen
    shared = model.generator.embed(one_hot)
    assert torch.equal(told1, torch.cat([z[:, 3:5], shared], 1)) and torch.equal(told2, torch.cat([z[:, 5:], shared], 1))
    assert torch.equal(out1, again1) and not torch.equal(out2, again2)  # the last piece reaches the last block alone
    assert not torch.equal(*images)


def test_the_class_reaches_both_networks_and_logits_differ_by_an_inner_product():
    model = small().eval()
    z = model.draw_latent(1).expand(3, -1)
    pictures = model.generator(z, torch.eye(3))
    assert (pictures[0] != pictures[1]).any() and (pictures[1] != pictures[2]).any()
    D, y = model.discriminator, torch.randn(5, 1, 8, 8)
    logits = torch.stack([D(y, torch.eye(3)[[c]].expand(5, -1)) for c in range(3)], 1)
    vectors = D.head.embed.weight()  # (F, 3), in use
    torch.testing.assert_close(logits[:, 0] - logits[:, 2], D.features(y) @ (vectors[:, 0] - vectors[:, 2]))


def test_without_classes_the_blocks_are_told_z_alone():
    model = small(classes=None)
    assert not any(isinstance(m, Embedding) for m in model.modules()) and model.discriminator.head.embed is None
    assert model.example_context(4) is None
    SPACE.validate(model.sample(4))
    with pytest.raises(ValueError, match="takes no context"):
        model.sample(4, torch.zeros(4, dtype=torch.long))


def test_all_layers_of_the_discriminator_have_a_singular_value_of_one_and_the_generator_s_norms_are_conditional():
    model = small()
    norms = [m for m in model.discriminator.modules() if isinstance(m, SpectralNorm)]
    held = {id(m.layer) for m in norms}
    assert {id(m) for m in model.discriminator.modules() if isinstance(m, nn.Linear | nn.Conv2d)} == held
    for norm in norms:
        for _ in range(300):
            norm.sigma()
        assert torch.linalg.svdvals(norm.weight().detach().flatten(1))[0].item() == pytest.approx(1, abs=1e-5)
    assert sum(isinstance(m, ConditionalBatchNorm2d) for m in model.generator.modules()) == 4


def test_with_attention_every_parameter_learns_once_its_share_is_not_zero():
    model = small(Space((1, 16, 16), 17), width=16, d_width=16, attention=8, base=4)
    found = [m for m in model.modules() if isinstance(m, SelfAttention)]
    assert len(found) == 2
    with torch.no_grad():
        for layer in found:
            layer.gamma.fill_(0.5)
    x = images(space=model.space)
    for move in model.moves():
        gradients = torch.autograd.grad(move.loss(x, LABELS).mean(), move.learns)
        assert all(bool(g.any()) for g in gradients), move.name


# --- losses -----------------------------------------------------------------------------------------------------------


def test_the_orthogonal_penalty_is_zero_for_rows_at_right_angles_whatever_their_lengths():
    layer = nn.Linear(5, 3, dtype=torch.float64)
    nn.init.orthogonal_(layer.weight)
    assert orthogonal_penalty(layer).item() == pytest.approx(0, abs=1e-28)
    with torch.no_grad():
        layer.weight.mul_(torch.tensor([[3.0], [0.1], [1.0]]))
    assert orthogonal_penalty(layer).item() == pytest.approx(0, abs=1e-28)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0, 0, 0, 0], [2.0, 1, 0, 0, 0], [0, 0, 0, 0, 1]]))
    assert orthogonal_penalty(layer).item() == pytest.approx(2 * 2.0**2)  # one pair of rows, counted twice
    assert orthogonal_penalty(nn.Sequential(layer, Embedding(4, 4))).item() == pytest.approx(8)


def test_the_losses_are_hinge_with_the_penalty_on_the_generator():
    model, x = small(orthogonal=0.3), images()
    plain = small(orthogonal=0.0)
    for name in ("d_loss", "g_loss"):
        torch.manual_seed(1)
        a = getattr(model, name)(x, LABELS)
        torch.manual_seed(1)
        b = getattr(plain, name)(x, LABELS)
        extra = 0.3 * orthogonal_penalty(plain.generator) if name == "g_loss" else 0.0
        torch.testing.assert_close(a, b + extra)
    assert model.loss is losses.hinge and orthogonal_penalty(plain.generator) > 0


# --- training ---------------------------------------------------------------------------------------------------------


def test_averaged_weights_have_statistics_of_their_own():
    """After `fit(ema=...)` a fresh measurement finds what is there; those of training were of other weights."""
    model, seen = small(width=8), {}

    def note(step, trained):
        seen.update({name: value.clone() for name, value in trained.named_buffers() if "running_mean" in name})

    x = (images(48), torch.arange(48) % 3)
    fit(model, x, steps=12, batch_size=16, lr=1e-2, ema=0.99, device="cpu", progress=False, callback=note)
    kept = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
    model.settle(4000, generator=torch.Generator().manual_seed(5))
    for name, mean in ((name, value) for name, value in kept.items() if "running_mean" in name):
        fresh, spread = model.get_buffer(name), model.get_buffer(name.replace("mean", "var")).sqrt()
        error = ((mean - fresh) / spread).abs()
        assert error.max() < 0.15  # two measurements of 2000 and 4000 images, some places of which are alike
    assert any(((seen[name] - kept[name]).abs() > 0.05).any() for name in seen)


def test_it_learns_what_a_label_means():
    """Label 0 is a black image and label 1 one with a white upper half; after 120 rounds nearly every sample is right."""
    labels = torch.arange(64) % 2
    x = torch.zeros(64, 1, 8, 8, dtype=torch.uint8)
    x[labels == 1, :, :4] = 16
    model = small(latent=9, width=12, d_width=8, classes=2)
    fit(model, (x, labels), steps=120, batch_size=32, lr=2e-3, seed=0, device="cpu", progress=False)
    asked = torch.arange(200) % 2
    samples = model.sample(200, asked, generator=torch.Generator().manual_seed(4)).double() / 16
    top, bottom = samples[:, 0, :4].mean(dim=(1, 2)), samples[:, 0, 4:].mean(dim=(1, 2))
    assert (((top - asked).abs() < 0.3) & (bottom < 0.3)).double().mean() > 0.9


@pytest.mark.weekly
def test_truncation_buys_precision_with_recall_on_digits():
    """The recipe's model; measured over seeds by benchmarks/truncation.py, with room for other seeds and machines."""
    digits, recipe = data.load("digits"), next(recipe for recipe in RECIPES if recipe.name == "digits")
    torch.manual_seed(0)
    model = BigGAN(digits.space, **recipe.options)
    fit(model, digits, device="cpu", progress=False, **recipe.fit)
    judge, labels, found = scored_classifier(digits), digits.test_labels, {}
    for psi in (None, 0.5):
        x = model.sample(len(labels), labels, truncation=psi, generator=torch.Generator().manual_seed(0))
        found[psi] = precision_recall(judge.features(digits.test), judge.features(x))
        assert (judge.predict(x) == labels).double().mean() >= 0.97
    assert found[None].recall - found[0.5].recall >= 0.4
    assert found[0.5].precision - found[None].precision >= 0.04


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BigGAN(Space((2,))), "even sides of 8 or more, but the space is"),
        (lambda: small(latent=2), "cut into 3 pieces, so latent must be 3 or more, not 2"),
        (lambda: small(attention=2), "attention must be None or the side of a map, one of 8, 4, not 2"),
        (lambda: small(orthogonal=-1), "orthogonal must be a number of 0 or more"),
        (lambda: small().sample(3), "needs labels"),
        (lambda: small().sample(3, torch.tensor([0, 1, 3])), r"labels must be integers 0\.\.2"),
        (lambda: small().sample(3, torch.arange(3), truncation=0.0), "truncation must be a positive number"),
        (lambda: small().sample(3, torch.arange(3), truncation=0.001), "truncation must be 0.01 or more, not 0.001"),
        (lambda: small().sample(-1, torch.arange(3), truncation=1.0), "n must be an integer of 0 or more"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
