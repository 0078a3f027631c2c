"""The matching-aware loss by hand, codes that do not see padding, mixtures that end in the captions, gradients on their side."""

import math

import pytest
import torch
from torch import nn

from gencourse.adversarial import losses
from gencourse.adversarial.text_to_image import TextToImage, matching_aware, mixed, read_between
from gencourse.data.scenes import Scenes, draw_scenes
from gencourse.space import Space
from gencourse.train import fit

SPACE = Space((3, 8, 8), 17)
QUIET = {"device": "cpu", "progress": False}


def small(**options):
    torch.manual_seed(0)
    return TextToImage(SPACE, **{"words": 9, "length": 5, "latent": 4, "code": 6, "width": 4} | options)


def batch(model, n=6):
    return torch.randint(17, (n, *SPACE.shape)), model.example_context(n)


def sigmoid(a):
    return 1 / (1 + math.exp(-a))


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_the_matching_aware_loss_is_the_papers():
    """Algorithm 1, line by line: log s_r + (log(1 - s_w) + log(1 - s_f)) / 2, to be raised; and the hinge's by hand."""
    right, wrong, fake = [0.3, -1.2, 2.0], [-0.4, 0.9, 1.5], [0.8, -2.0, 0.1]
    found = matching_aware(losses.non_saturating, *(torch.tensor(v, dtype=torch.float64) for v in (right, wrong, fake)))
    by_hand = [
        -math.log(sigmoid(r)) - (math.log(1 - sigmoid(w)) + math.log(1 - sigmoid(f))) / 2
        for r, w, f in zip(right, wrong, fake, strict=True)
    ]
    assert found.tolist() == pytest.approx(by_hand, abs=1e-12)
    hinge = matching_aware(losses.hinge, torch.tensor([0.5]), torch.tensor([-0.2]), torch.tensor([-3.0]))
    assert hinge.item() == pytest.approx(0.5 + 0.8 / 2 + 0)


@pytest.mark.parametrize("loss", [losses.non_saturating, losses.hinge, losses.least_squares(), losses.wasserstein])
def test_a_wrong_caption_is_a_mistake_and_not_a_real_pair(loss):
    """The loss falls with the logit of a right pair, and rises with that of a wrong one and of a made picture, half as fast."""
    right, wrong, fake = (torch.tensor([value], requires_grad=True) for value in (0.2, 0.3, 0.3))
    r, w, f = torch.autograd.grad(matching_aware(loss, right, wrong, fake).sum(), (right, wrong, fake))
    assert r < 0 < w and w == f
    (ordinary,) = torch.autograd.grad(loss.d_loss(right, fake).sum(), fake)
    assert w == ordinary / 2


def test_the_discriminator_is_shown_three_kinds_of_pairs():
    """Pair by pair: the wrong caption of each picture is another's, and no picture keeps its own."""
    model = small().double().eval()
    x, captions = batch(model)
    codes, real = model.encode(captions), model.centred(x)
    torch.manual_seed(3)
    found = model.d_loss(x, captions)
    torch.manual_seed(3)
    fake = model.generator(model.draw_latent(6), codes)
    expected = []
    for i in range(6):
        logits = [
            model.discriminator(y[None], codes[[j]]) for y, j in ((real[i], i), (real[i], (i - 1) % 6), (fake[i], i))
        ]  # D(x, t), D(x, t'), D(G(z, t), t)
        r, w, f = (logit.item() for logit in logits)
        expected.append(max(0, 1 - r) + max(0, 1 + w) / 2 + max(0, 1 + f) / 2)
    assert found.tolist() == pytest.approx(expected, abs=1e-9)
    assert len(captions.unique(dim=0)) == 6  # so that each wrong caption differed


def test_without_wrong_captions_it_is_the_ordinary_conditional_game():
    model = small(cls=False, loss=losses.non_saturating).double().eval()
    x, captions = batch(model)
    codes = model.encode(captions)
    torch.manual_seed(3)
    found = model.d_loss(x, captions)
    torch.manual_seed(3)
    fake = model.generator(model.draw_latent(6), codes)
    logits = model.discriminator(model.centred(x), codes), model.discriminator(fake, codes)
    assert torch.allclose(found, losses.non_saturating.d_loss(*logits))


def test_gradients_stay_on_their_side():
    """The encoder learns which caption belongs to which picture, in the discriminator's move; the generator reads its codes."""
    model = small(interpolate=0.5, loss=losses.non_saturating)  # the hinge moves no offset while all logits are in (-1, 1)
    x, captions = batch(model)
    d, g = model.moves()
    parts = [list(part.parameters()) for part in (model.generator, model.discriminator, model.encoder)]
    assert [id(p) for p in d.learns] == [id(p) for p in (*parts[1], *parts[2])]
    assert [id(p) for p in g.learns] == [id(p) for p in parts[0]]
    loss = d.loss(x, captions).sum()
    of_g, of_d, of_e = (torch.autograd.grad(loss, part, allow_unused=True, retain_graph=True) for part in parts)
    assert all(v is None for v in of_g) and all(v is not None and v.any() for v in (*of_d, *of_e))
    loss = g.loss(x, captions).sum()
    of_g, of_e = (torch.autograd.grad(loss, part, allow_unused=True, retain_graph=True) for part in (parts[0], parts[2]))
    assert all(v is not None and v.any() for v in of_g) and all(v is None for v in of_e)


# --- captions and codes -----------------------------------------------------------------------------------------------


def test_a_code_is_the_state_of_the_recurrence_at_the_last_word():
    """Cho et al., 2014, in torch's form: h' = (1 - u) n + u h, with a reset gate inside n."""
    model = small().double()
    read, h = model.encoder.read, torch.zeros(6, dtype=torch.float64)
    for word in (3, 1, 8):
        v = model.encoder.embed.weight[word]
        inputs = (read.weight_ih_l0 @ v + read.bias_ih_l0).chunk(3)
        states = (read.weight_hh_l0 @ h + read.bias_hh_l0).chunk(3)
        reset, update = torch.sigmoid(inputs[0] + states[0]), torch.sigmoid(inputs[1] + states[1])
        h = (1 - update) * torch.tanh(inputs[2] + reset * states[2]) + update * h
    assert torch.allclose(model.encode(torch.tensor([[3, 1, 8]]))[0], h, atol=1e-12)


def test_padding_does_not_change_a_code():
    model = small().double()
    captions = model.example_context(8)
    codes = model.encode(captions)
    for caption, code in zip(captions, codes, strict=True):
        alone = caption[caption > 0][None]
        assert torch.allclose(model.encode(alone)[0], code, atol=1e-12)
    with torch.no_grad():
        model.encoder.embed.weight[0] = 7.0  # what stands for "nothing" is not read
    assert torch.allclose(model.encode(captions), codes, atol=1e-12)


def test_the_order_of_words_matters():
    model = small()
    one, other = model.encode(torch.tensor([[3, 1, 0], [1, 3, 0]]))
    assert not torch.allclose(one, other)


def test_a_picture_follows_its_own_caption_and_z_alone():
    model = small().eval()
    captions, z = model.example_context(5), torch.randn(5, 4)
    together = model.generate(z, captions)
    assert torch.equal(model.generate(z[2:3], captions[2:3]), together[2:3])
    other = captions.roll(1, 0)
    assert (model.generate(z, other) != together).flatten(1).any(1).all()


def test_mixtures_at_the_ends_are_the_captions_own():
    codes = torch.randn(1000, 6)
    assert torch.equal(mixed(codes, 0.0), codes)
    assert torch.equal(mixed(codes, 1.0, beta=1.0), codes)
    assert torch.equal(mixed(codes, 1.0, beta=0.0), codes.roll(1, 0))
    assert torch.allclose(mixed(codes, 1.0), (codes + codes.roll(1, 0)) / 2)
    changed = (mixed(codes, 0.3) != codes).any(1).double().mean()
    assert abs(changed - 0.3) < 5 * (0.3 * 0.7 / 1000) ** 0.5  # five standard errors


def test_between_two_captions_lie_pictures_that_begin_and_end_with_theirs():
    model = small()
    first, second = model.example_context(2)
    z = torch.randn(3, 4)
    path = model.between(first, second, torch.linspace(0, 1, 5), z=z)
    assert path.shape == (3, 5, *SPACE.shape)
    for row, noise in zip(path, z, strict=True):
        ends = model.generate(noise.expand(2, -1), torch.stack([first, second]))
        assert torch.equal(row[[0, -1]], ends)
        with model.evaluation(), torch.no_grad():
            half = model.generator(noise[None], model.encode(torch.stack([first, second])).mean(0, keepdim=True))
        assert torch.equal(row[2], model.to_space(half)[0])


def test_what_is_read_on_the_way_from_one_caption_to_another():
    """A stand-in that draws the first caption's scene until half way, and then the second's."""
    first, second = "a large red disc at the top left", "a large blue disc in the middle"
    scenes = Scenes(*(torch.tensor([[a], [b]]) for a, b in ((0, 0), (0, 2), (0.62, 0.62), (-0.3, 0), (-0.3, 0))))
    one, other = draw_scenes(scenes)

    class Stub(TextToImage):
        def between(self, first, second, betas, *, z):
            return torch.stack([other if beta > 0.5 else one for beta in betas]).expand(len(z), -1, -1, -1, -1)

    shares = read_between(Stub(Space((3, 16, 16), 256), width=2), first, second, torch.tensor([0.0, 0.4, 0.9]), draws=2)
    assert shares.shape == (3, 4, 2)
    for shape, colour, size, place in shares[:2]:
        assert shape.tolist() == size.tolist() == [1, 1] and colour.tolist() == place.tolist() == [1, 0]
    assert shares[2].tolist() == [[1, 1], [0, 1], [1, 1], [0, 1]]


def test_interpolated_captions_are_the_generators_alone():
    """The same mixture for both networks; with a share of 1 the loss is that of the mean codes."""
    model = small(interpolate=1.0).double().eval()
    x, captions = batch(model)
    codes = model.encode(captions)
    state = torch.get_rng_state()
    found = model.g_loss(x, captions)
    torch.set_rng_state(state)
    torch.rand(6, 1)
    between = (codes + codes.roll(1, 0)) / 2
    fake = model.generator(model.draw_latent(6), between)
    assert torch.allclose(found, -model.discriminator(fake, between))


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def places():
    """Word 1 asks for a light upper half, word 2 for a light lower half; after word 3, which says nothing."""
    captions = torch.tensor([[3, 1], [1, 0], [3, 2], [2, 0]]).repeat(16, 1)
    x = torch.zeros(64, 3, 8, 8, dtype=torch.uint8)
    upper = (captions == 1).any(1)
    x[upper, :, :4], x[~upper, :, 4:] = 16, 16
    model = small(words=4, length=2, width=8)
    fit(model, (x, captions), steps=120, batch_size=32, lr=2e-3, ema=0.9, **QUIET)
    return model, captions


def test_it_learns_where_a_caption_wants_the_light(places):
    """A discriminator that pooled its map before it saw the caption could not tell these two apart."""
    model, captions = places
    samples = model.sample(64, captions, generator=torch.Generator().manual_seed(4)).double() / 16
    top, bottom = samples[:, :, :4].mean(dim=(1, 2, 3)), samples[:, :, 4:].mean(dim=(1, 2, 3))
    upper = (captions == 1).any(1).double()
    right = ((top - upper).abs() < 0.3) & ((bottom - (1 - upper)).abs() < 0.3)
    assert right.double().mean() > 0.9


def test_statistics_are_measured_on_the_captions_of_the_last_batches(places):
    """Every caption noted is one of those trained on; settled on them, evaluation mode gives what their own batch gives."""
    model, captions = places
    noted = model.recent
    assert noted.shape == (512, 2) and bool((noted[:, None] == captions[None]).all(2).any(1).all())
    model.settle(generator=torch.Generator().manual_seed(5))
    z = model.draw_latent(512, generator=torch.Generator().manual_seed(5))
    codes = model.encode(noted)
    with torch.no_grad(), model.evaluation():
        settled = model.generator(z, codes)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.generator.train()
    with torch.no_grad():
        own = model.generator(z, codes)
    model.load_state_dict(before)
    assert torch.allclose(settled, own, atol=2e-3)  # the unbiased variance against the biased


def test_captions_of_several_lengths_can_be_trained_on():
    """Noted captions are padded to the longest, and a small batch leaves room for those before it."""
    model = small()
    d = model.moves()[0]
    x, long = batch(model, 4)
    short = torch.tensor([[5], [6]])
    d.loss(x, long), d.loss(x[:2], short)
    assert torch.equal(model.recent[-6:-2], long)
    assert torch.equal(model.recent[-2:], torch.tensor([[5, 0, 0, 0, 0], [6, 0, 0, 0, 0]]))


def test_the_networks_grow_with_the_images():
    model = TextToImage(Space((1, 32, 32), 256), words=9, length=5, width=4)
    channels = [m.out_channels for m in model.generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert channels == [8, 4, 1]  # 4 to 8 to 16 to 32 pixels
    assert model.sample(2, model.example_context(2)).shape == (2, 1, 32, 32)


CAPTIONS = r"TextToImage needs captions \(2, L\) as its context, L from 1 to 5, token ids 1 to 8, .*"


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (None, CAPTIONS + "none were given"),
        (torch.ones(2).long(), CAPTIONS + r"their shape is \(2,\)"),
        (torch.ones(3, 4).long(), CAPTIONS + r"their shape is \(3, 4\)"),
        (torch.ones(2, 6).long(), CAPTIONS + r"their shape is \(2, 6\)"),
        (torch.ones(2, 4), "captions must be token ids 1 to 8"),
        (torch.tensor([[1, 9], [1, 2]]), "captions must be token ids 1 to 8"),
        (torch.tensor([[1, -1], [1, 2]]), "captions must be token ids 1 to 8"),
        (torch.tensor([[0, 1], [1, 2]]), "0 after the end of a caption, one word or more each"),
        (torch.tensor([[1, 0, 2], [1, 2, 0]]), "0 after the end of a caption, one word or more each"),
    ],
)
def test_what_is_no_caption_is_named(context, message):
    with pytest.raises(ValueError, match=message):
        small().sample(2, context)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": 1}, "words must be an integer of 2 or more"),
        ({"interpolate": 1.5}, "interpolate must be a probability"),
        ({"code": 0}, "code must be a positive integer"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_points_have_no_captions():
    with pytest.raises(ValueError, match="images of integers"):
        TextToImage(Space((2,)))
