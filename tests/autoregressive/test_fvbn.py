import pytest
import torch

from gencourse import data
from gencourse.autoregressive.fvbn import FVBN
from gencourse.space import Space


def random_model(space):
    torch.manual_seed(0)
    model = FVBN(space).double()
    with torch.no_grad():
        model.W.normal_()
        model.b.normal_()
    return model


def test_each_conditional_is_one_logistic_regression_on_the_earlier_pixels():
    model = random_model(Space((1, 3, 3), 2))
    x = torch.randint(2, (5, 1, 3, 3))
    p = model.conditionals(x).probs.flatten(1)
    for n in range(5):
        for i in range(9):
            logit = model.b[i, 0] + sum(model.W[i, 0, j] * x[n].flatten()[j] for j in range(i))
            assert p[n, i].item() == pytest.approx(torch.sigmoid(logit).item(), abs=1e-12)


def test_on_more_levels_it_is_a_softmax_regression_in_the_order_of_the_colours():
    model = random_model(Space((2, 1, 2), 3))
    x = torch.randint(3, (4, 2, 1, 2))
    p = model.conditionals(x).probs.flatten(1, -2)  # (4, 4, 3)
    order = [0, 2, 1, 3]  # red and green of the first pixel, then of the second
    for position, i in enumerate(order):
        logits = model.b[i] + sum(x.flatten(1)[:, j, None] / 2 * model.W[i, :, j] for j in order[:position])
        assert torch.allclose(p[:, i], torch.softmax(torch.as_tensor(logits).expand(4, 3), -1), rtol=0, atol=1e-12)


def test_it_uses_one_weight_for_each_pair_of_pixels():
    model = random_model(Space((1, 4, 4), 2))
    model.log_prob(torch.randint(2, (200, 1, 4, 4))).sum().backward()
    assert int((model.W.grad != 0).sum()) == 16 * 15 // 2
    assert int((model.b.grad != 0).sum()) == 16


def test_the_gradient_is_the_error_times_the_earlier_pixel():
    model = random_model(Space((1, 3, 3), 2))
    x = torch.randint(2, (7, 1, 3, 3))
    model.log_prob(x).sum().backward()
    flat = x.flatten(1).double()
    error = flat - model.conditionals(x).probs.detach().flatten(1)  # (7, 9)
    assert torch.allclose(model.W.grad[:, 0], (error.T @ flat).tril(-1), rtol=0, atol=1e-12)
    assert torch.allclose(model.b.grad[:, 0], error.sum(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("space", [Space((1, 3, 3), 2), Space((1, 2, 2), 4)], ids=str)
def test_the_log_likelihood_is_concave(space):
    model = random_model(space)
    x = torch.randint(space.levels, (20, *space.shape))
    ends = [[torch.randn_like(p) for p in model.parameters()] for _ in range(2)]

    @torch.no_grad()
    def value(t):
        for p, a, b in zip(model.parameters(), *ends, strict=True):
            p.copy_((1 - t) * a + t * b)
        return float(model.log_prob(x).sum())

    values = torch.tensor([value(t) for t in torch.linspace(0, 1, 41).tolist()], dtype=torch.float64)
    second_differences = values[2:] - 2 * values[1:-1] + values[:-2]
    assert (second_differences < 0).all()


def test_at_the_maximum_it_has_the_data_s_moments():
    """Where the gradient vanishes, E[x_i x_j] under p(x_i | x_<i) and the data's x_<i is the data's own, for all j < i."""
    images = data.load("bars_and_stripes").train
    model = FVBN(Space((1, 3, 3), 2)).double()
    penalty = 1e-3  # the unpenalised maximum is at infinity: some pixels follow from others
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=500, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = -model.log_prob(images).mean() + penalty / 2 * (model.W**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    x = images.flatten(1).double()
    p = model.conditionals(images).probs.detach().flatten(1)
    moments = ((x - p).T @ x / len(x)).tril(-1)
    assert torch.allclose(moments, penalty * model.W.detach()[:, 0].tril(-1), rtol=0, atol=1e-7)
    assert torch.allclose(p.mean(0), x.mean(0), rtol=0, atol=1e-7)
    nll = -model.log_prob(images).mean().item()
    assert torch.log(torch.tensor(14.0)).item() < nll < 3.7  # between the data's entropy, 2.64, and independent pixels, 6.24
