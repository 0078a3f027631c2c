import copy

import pytest
import torch
from torch.autograd import gradcheck

from gencourse.autoregressive.nade import NADE, _Products, _products_in_blocks
from gencourse.space import Space

SPACES = [Space((1, 3, 3), 2), Space((3, 2, 2), 2), Space((2, 1, 2), 4)]


def random_model(space, **options):
    torch.manual_seed(0)
    model = NADE(space, hidden=6, **options).double()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_()
    return model


def double_loop(model, x, keep=None):
    """The definition: for each pixel, every hidden unit from all earlier pixels, O(D^2 H). Logits (B, D, outputs)."""
    order, unit = model.order.tolist(), x.flatten(1).double() / (model.levels - 1)
    logits = [None] * len(order)
    for t, i in enumerate(order):
        a = model.c.expand(len(x), -1)
        for s, j in enumerate(order[:t]):
            a = a + unit[:, j, None] * model.W[:, s]
        h = torch.sigmoid(a) if keep is None else torch.sigmoid(a) * keep
        logits[i] = model.b[t] + h @ model.V[t].T
    return torch.stack(logits, 1)


def loop_log_prob(model, x, keep=None):
    logits = double_loop(model, x, keep)
    if model.levels == 2:
        logits = torch.cat([torch.zeros_like(logits), logits], -1)
    return logits.log_softmax(-1).gather(-1, x.flatten(1).unsqueeze(-1)).sum((1, 2))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_it_is_the_double_loop(space):
    model = random_model(space)
    x = torch.randint(space.levels, (16, *space.shape))
    assert torch.allclose(model.log_prob(x), loop_log_prob(model, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_its_gradient_is_that_of_autograd_through_the_double_loop(space):
    model = random_model(space)
    x = torch.randint(space.levels, (16, *space.shape))
    weights = torch.randn(16).double()  # no two images alike
    ours, loop = (
        torch.autograd.grad((weights * log_prob).sum(), list(model.parameters()))
        for log_prob in (model.log_prob(x), loop_log_prob(model, x))
    )
    for a, b in zip(ours, loop, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("block", [1, 2, 3, 7, 50])
def test_the_written_out_gradient_is_right_for_every_block_size(block, outputs, monkeypatch):
    monkeypatch.setattr(_Products, "BLOCK", block)
    torch.manual_seed(0)
    x, W, c, V = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((7, 3), (7, 4), (4,), (7, outputs, 4))
    )
    dropped = 2.0 * (torch.rand(3, 4) < 0.5).double()
    for keep in (None, dropped):
        assert gradcheck(lambda *t, keep=keep: _Products.apply(*t, keep), (x, W, c, V))
        in_blocks = _products_in_blocks(x, W, c, V, keep, block)
        assert torch.allclose(_Products.apply(x, W, c, V, keep), in_blocks, rtol=0, atol=1e-12)


def test_dropout_leaves_out_a_unit_for_a_whole_image_and_keeps_the_expected_logit():
    model = random_model(Space((1, 3, 3), 2), dropout=0.5).train()
    x = torch.randint(2, (2, 1, 3, 3))
    torch.manual_seed(3)
    logits = model.conditionals(x).logits.flatten(1)
    torch.manual_seed(3)
    keep = torch.nn.functional.dropout(torch.ones(2, 6).double(), 0.5)  # the same draw
    assert torch.allclose(logits, double_loop(model, x, keep).squeeze(-1), rtol=0, atol=1e-12)
    many = torch.stack([model.conditionals(x).logits.flatten(1).detach() for _ in range(4000)])
    error = many.std(0) / 4000**0.5
    whole = double_loop(model, x).squeeze(-1)
    assert ((many.mean(0) - whole).abs() < 4.5 * error).all()
    assert torch.allclose(model.eval().conditionals(x).logits.flatten(1), whole, rtol=0, atol=1e-12)


def test_memory_in_training_does_not_hold_a_hidden_layer_for_each_pixel():
    pixels, hidden, batch = 14 * 14, 100, 40
    model = NADE(Space((1, 14, 14), 2), hidden=hidden)
    saved = []

    def note(t):
        saved.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        loss = model.log_prob(torch.randint(2, (batch, 1, 14, 14))).sum()
    loss.backward()
    kept = sum(t.numel() for t in {t.data_ptr(): t for t in saved}.values())
    assert kept < pixels * hidden * batch / 4


def test_samples_take_one_term_a_pixel():
    model = random_model(Space((1, 3, 3), 2))
    cache = model.start_cache(4)
    x = torch.randint(2, (4, 1, 3, 3))
    seen = torch.zeros_like(x)
    for i in range(9):
        logits = cache.logits(seen, i)
        a = model.c + seen.flatten(1).double() @ model.W.T
        assert torch.allclose(cache.activation, a, rtol=0, atol=1e-12)
        assert torch.allclose(logits, double_loop(model, x)[:, i], rtol=0, atol=1e-12)
        seen.flatten(1)[:, i] = x.flatten(1)[:, i]


@pytest.mark.parametrize("products", [_Products.apply, _products_in_blocks])
def test_bfloat16_autocast_does_not_touch_the_sums(products, monkeypatch):
    monkeypatch.setattr(_Products, "apply", products)
    torch.manual_seed(0)
    model = NADE(Space((1, 6, 6), 2), hidden=20)
    x = torch.randint(2, (8, 1, 6, 6))
    exact = loop_log_prob(copy.deepcopy(model).double(), x).float()
    assert torch.allclose(model.log_prob(x), exact, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(model.log_prob(x), exact, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"hidden": 0}, "hidden"), ({"hidden": (5,)}, "hidden"), ({"dropout": 1.0}, "dropout"), ({"dropout": -0.1}, "dropout")],
)
def test_a_bad_option_is_named_in_one_sentence(options, says):
    with pytest.raises(ValueError) as caught:
        NADE(Space((1, 3, 3), 2), **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
