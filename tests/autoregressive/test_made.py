import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gencourse.autoregressive.made import MADE
from gencourse.checks import assert_normalized, every_example
from gencourse.space import Space

SPACE = Space((1, 3, 3), 2)


def made(space=SPACE, **options):
    torch.manual_seed(0)
    model = MADE(space, **{"hidden": (30, 20), "masks": 4, **options}).double()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.5)
    return model


@pytest.mark.parametrize("hidden", [(40,), (30, 20), (20, 30, 20)])
@pytest.mark.parametrize("direct", [True, False])
def test_the_jacobian_is_strictly_triangular_in_each_ordering(hidden, direct):
    model = made(hidden=hidden, direct=direct)
    x = torch.rand(1, 1, 3, 3, dtype=torch.float64)
    for k in range(4):
        with model.using(k):
            jacobian = torch.autograd.functional.jacobian(lambda x: model.conditionals(x).logits.flatten(), x).view(9, 9)
            ordered = jacobian[model.order][:, model.order]
        assert (ordered.triu() == 0).all()
        if direct:
            assert (ordered + torch.eye(9).double()).tril().count_nonzero() == 45
        assert k == 0 or (jacobian.triu() != 0).any()  # in the natural order it is not triangular at all


def test_there_are_as_many_connections_as_the_rule_allows():
    model = made(hidden=(30, 20))
    for k in range(4):
        degrees = model.degrees[k].tolist()
        pixels, first, second = degrees[:9], degrees[9:39], degrees[39:]
        assert sorted(pixels) == list(range(1, 10))
        assert set(first) == set(second) == set(range(1, 9))  # each number of pixels is what some unit knows
        with model.using(k):
            counts = [int(mask.sum()) for mask in model.connections()]
        assert counts == [
            sum(after >= before for before in pixels for after in first),
            sum(after >= before for before in first for after in second),
            sum(after > before for before in second for after in pixels),
            9 * 8 // 2,
        ]


def test_every_path_leads_forward_and_every_pair_has_one():
    model = made(hidden=(30, 20, 25), direct=False)
    for k in range(4):
        with model.using(k):
            first, second, third, output, _ = model.connections()
            paths = (output @ third @ second @ first)[model.order][:, model.order]  # how many, from input to output
        assert (paths.triu() == 0).all()
        assert (paths + torch.eye(9).double()).tril().count_nonzero() == 45


def test_more_levels_repeat_the_outputs_connections():
    model = made(Space((1, 2, 2), 3))
    to_output, direct = model.connections()[-2:]
    assert torch.equal(to_output.view(4, 3, 20), to_output.view(4, 3, 20)[:, :1].expand(4, 3, 20))
    assert to_output.shape == (12, 20)
    assert torch.equal(direct.view(4, 3, 4), direct.view(4, 3, 4)[:, :1].expand(4, 3, 4))


def test_the_ensemble_is_the_mean_of_its_masks_probabilities_and_sums_to_one():
    model = made()
    x = every_example(SPACE)
    each = []
    for k in range(4):
        with model.using(k):
            conditionals = model.conditionals(x)
            each.append(conditionals.log_prob(x.double()).flatten(1).sum(1).exp())
        assert each[-1].sum().item() == pytest.approx(1, abs=1e-10)
    assert not torch.allclose(each[0], each[1], rtol=0.1)
    assert torch.allclose(model.log_prob(x).exp(), sum(each) / 4, rtol=0, atol=1e-14)
    assert_normalized(model, atol=1e-10)
    mixture_nll = -(each[0] * model.log_prob(x)).sum()
    mean_nll = -sum((each[0] * p.log()).sum() for p in each) / 4
    assert mixture_nll < mean_nll  # Jensen's inequality: the ensemble beats its average member on any data


def test_training_one_mask_changes_only_its_own_connections_and_zeroes_no_weight():
    model = made()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    x = torch.randint(2, (200, *SPACE.shape))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with model.using(2):
        masks = [mask.bool() for mask in model.connections()]
        for _ in range(3):
            optimizer.zero_grad()
            (-model.conditionals(x).log_prob(x.double()).sum() / 200).backward()
            optimizer.step()
    names = ["layers.0.weight", "layers.1.weight", "output.weight", "direct.weight"]
    for name, mask in zip(names, masks, strict=True):
        weight = model.get_parameter(name)
        assert torch.equal(weight[~mask], before[name][~mask])
        assert (weight[mask] != before[name][mask]).any()
        assert (weight != 0).all()


def test_batches_train_all_masks_in_turn_and_validation_is_the_mixture_s():
    model = made()
    x = torch.randint(2, (10, *SPACE.shape))
    nll = model.moves()[0].loss
    single = []
    for k in range(4):
        with model.using(k):
            single.append(-model.conditionals(x).log_prob(x.double()).flatten(1).sum(1))
    torch.manual_seed(5)
    drawn = []
    for _ in range(60):
        loss = nll(x, None)
        drawn += [k for k in range(4) if torch.allclose(loss, single[k], rtol=0, atol=1e-12)]
    assert len(drawn) == 60
    assert set(drawn) == {0, 1, 2, 3}
    torch.manual_seed(5)  # what fit does in each step: the same seed, the same mask
    assert torch.allclose(nll(x, None), single[drawn[0]], rtol=0, atol=1e-12)
    assert torch.equal(model.eval().moves()[0].loss(x, None), -model.log_prob(x))
    assert model.active == 0


def test_the_first_order_is_the_natural_one_and_the_others_differ():
    space = Space((3, 2, 2), 2)
    model = made(space)
    natural = torch.arange(12).view(3, 4).T.flatten()
    orders = []
    for k in range(4):
        with model.using(k):
            orders.append(model.order)
    assert torch.equal(orders[0], natural)
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert all(torch.equal(order.sort().values, torch.arange(12)) for order in orders)
    one_order = made(space, orderings=1)
    assert torch.equal(one_order.degrees[:, :12], one_order.degrees[:1, :12].expand(4, 12))
    assert not torch.equal(one_order.degrees[0, 12:], one_order.degrees[1, 12:])


def test_orders_may_be_given_and_are_used_in_turn():
    backward = list(range(8, -1, -1))
    model = made(orderings=(range(9), backward))
    for k, expected in enumerate((list(range(9)), backward, list(range(9)), backward)):
        with model.using(k):
            assert model.order.tolist() == expected


def test_the_masks_follow_from_the_seed_and_are_no_weights():
    a, b, c = (MADE(SPACE, masks=3, seed=s) for s in (1, 1, 2))
    assert torch.equal(a.degrees, b.degrees)
    assert not torch.equal(a.degrees, c.degrees)
    assert set(a.state_dict()) == {"layers.0.weight", "layers.0.bias", "output.weight", "output.bias", "direct.weight"}


def test_a_cached_image_costs_at_most_one_pass_and_a_naive_one_a_pass_a_pixel():
    model = MADE(Space((1, 8, 8), 2), hidden=(200, 100))

    def flops(call):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            call()
        return counter.get_total_flops()

    one = flops(lambda: model.conditionals(torch.zeros(5, 1, 8, 8, dtype=torch.long)))
    assert flops(lambda: model.sample(5, cached=False)) == 64 * one
    assert 0 < flops(lambda: model.sample(5)) <= one


def test_each_image_of_an_ensemble_takes_one_ordering():
    """Two masks that agree on nothing: pixel 0 copies pixel 8 in one order, and pixel 8 denies pixel 0 in the other."""
    model = MADE(SPACE, hidden=(4,), masks=2, orderings=(range(9), range(8, -1, -1)))
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        model.direct.weight[8, 0], model.output.bias[8] = -80.0, 40.0  # used in the first order only
        model.direct.weight[0, 8], model.output.bias[0] = 80.0, -40.0
    x = model.sample(4000, generator=torch.Generator().manual_seed(0)).flatten(1)
    pairs = torch.stack([((x[:, 0] == a) & (x[:, 8] == b)).double().mean() for a in (0, 1) for b in (0, 1)])
    images = every_example(SPACE)
    flat, p = images.flatten(1), model.log_prob(images).exp().double()
    expected = torch.stack([p[(flat[:, 0] == a) & (flat[:, 8] == b)].sum() for a in (0, 1) for b in (0, 1)])
    assert ((pairs - expected).abs() < 4 * math.sqrt(0.25 / 4000)).all()
    assert torch.allclose(expected, torch.tensor([0.0, 0.5, 0.0, 0.5]).double(), atol=1e-6)


def test_dropout_is_for_training_alone():
    model = made(masks=1, dropout=0.5)
    x = torch.randint(2, (4, *SPACE.shape))
    assert not torch.equal(model.log_prob(x), model.log_prob(x))
    model.eval()
    assert torch.equal(model.log_prob(x), model.log_prob(x))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hidden": ()}, "hidden"),
        ({"hidden": (4, 0)}, "hidden"),
        ({"masks": 0}, "masks"),
        ({"masks": 2.0}, "masks"),
        ({"dropout": 1.0}, "dropout"),
        ({"orderings": 0}, "orderings"),
        ({"orderings": ()}, "permutation"),
        ({"orderings": [[0, 1, 2]]}, "permutation of 0..8"),
        ({"orderings": [[0, 0, 1, 2, 3, 4, 5, 6, 7]]}, "permutation of 0..8"),
    ],
)
def test_a_bad_option_is_named_in_one_sentence(options, says):
    with pytest.raises(ValueError) as caught:
        MADE(SPACE, **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_there_is_no_mask_beyond_the_last():
    with pytest.raises(ValueError, match=r"masks 0\.\.3, no mask 4"), made().using(4):
        pass
