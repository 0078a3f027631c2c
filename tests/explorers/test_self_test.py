"""The self-tests: their numbers are computed here, and the page says what the questions say."""

import json
import math
import re
from pathlib import Path

import nbformat
import pytest
import torch
import torch.nn.functional as F
from chromium import serve
from torch.distributions import Independent, Normal, kl_divergence

from gencourse.adversarial import losses
from gencourse.adversarial.translation import receptive_field
from gencourse.autoregressive.layers import MaskedConv2d, gate
from gencourse.checks.exact_world import tv_floor
from gencourse.explorers.questions import Choice, Number, chapter, chapters, read
from gencourse.explorers.self_test import PRACTICE, SelfTest, marked_up
from gencourse.flows.bijections import InvertibleLinear
from gencourse.metrics.hype import Staircase
from gencourse.space import Space


def running_sum(count):
    """NADE's multiplications over those of the running sum, for 101 pixels, if pixel i = 1, 2, ... takes count(i) of them."""
    return sum(count(i) for i in range(1, 102)) / 101


def bits(per_pixel=True, base=2.0):
    return 22.18 / math.log(base) / (64 if per_pixel else 1)


def mask(kind):
    return int((MaskedConv2d(1, 1, 5, kind).visible_weight() != 0).sum())


def blind(hop):
    """How many of the pixels above row 2, column 1 are out of reach in an image 6 wide, if d rows up bring hop(d) columns."""
    return sum(column > 1 + hop(d) for d in (1, 2) for column in range(6))


def gate_slope():
    a, b = torch.zeros(1, 1, 1, 1, requires_grad=True), torch.zeros(1, 1, 1, 1)
    return torch.autograd.grad(gate(torch.cat([a, b], 1)).sum(), a)[0].item()


def stretched():
    x = torch.tensor(1.0, requires_grad=True)
    return torch.autograd.grad(x / 4, x)[0].item()


def places(count):
    """The log-determinant of a 1x1 convolution with |det W| = 2 at so many places."""
    mix = InvertibleLinear(8)
    with torch.no_grad():
        mix.log_scale.add_(math.log(2) / 8)  # it was a rotation
        return mix(torch.zeros(1, 8, 1, count))[1].item()


def forgotten(base):
    space = Space((1, 3, 3), levels=256)
    return -space.dequantize(torch.zeros(1, 1, 3, 3, dtype=torch.long))[1].item() / space.dim / math.log(base)


def kl():
    q = Independent(Normal(torch.tensor([1.0, -1.0]), torch.ones(2)), 1)
    return kl_divergence(q, Independent(Normal(torch.zeros(2), torch.ones(2)), 1)).item()


def slope(loss, answer):
    a = torch.tensor([math.log(answer / (1 - answer))], requires_grad=True)
    return torch.autograd.grad(loss.g_loss(a).sum(), a)[0].abs().item()


def rows(**options):
    return F.conv_transpose2d(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), stride=2, **options).shape[2]


def upwards(width, padding=1):
    x, w = torch.zeros(1, 1, width, width), torch.zeros(1, 1, 4, 4)
    return F.conv_transpose2d(x, w, stride=2, padding=padding).shape[2]


def downwards(width):
    return F.conv2d(torch.zeros(1, 1, width, width), torch.zeros(1, 1, 4, 4), stride=2, padding=1).shape[2]


def middle(path):
    z = torch.randn(2, 10_000, 100, generator=torch.Generator().manual_seed(0))
    return path(*z).norm(dim=1).mean().item()


def jsd(p, q):
    m = (p + q) / 2
    return sum((a * (a / m).log())[a > 0].sum() / 2 for a in (p, q)).item()


def value(p, q):
    d = p / (p + q)
    return (p * d.log() + q * (1 - d).log()).sum().item()


def wasserstein(data, made):
    """In one dimension the best plan keeps the order."""
    return sum(abs(a - b) for a, b in zip(sorted(data), sorted(made), strict=True)) / len(data)


def penalty():
    real, fake = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(0))
    return losses.gradient_penalty(lambda y: y @ torch.tensor([3.0, 4.0]), real, fake)[2].item()


def began(**options):
    k, _ = losses.began_balance(
        torch.tensor(0.2), torch.tensor([0.6]), torch.tensor([0.2]), **{"gamma": 0.5, "step": 0.1, **options}
    )
    return float(k)


def median(values, weights):
    """The value with the lowest mean absolute error."""
    return min(values, key=lambda c: sum(w * abs(v - c) for v, w in zip(values, weights, strict=True)))


def matching():
    """The best answer to a pair, by looking for it."""
    d = torch.linspace(0.001, 0.999, 999)
    return float(d[(-0.3 * d.log() - (0.1 + 0.3) / 2 * (1 - d).log()).argmin()])


trio = torch.tensor([1.0, 2.0, 9.0])


def as_centre():
    """What each of three points costs as the centre of all."""
    return torch.cdist(trio[:, None], trio[:, None]).square().sum(0)


def next_is_4(power, point=4):
    """How probable a point is after the centre 0, in proportion to a power of the distance; 0 gives others the same chance."""
    others = [1, 4, 6]
    return point**power / sum(other**power for other in others)


def owned(first, second):
    """The share of the first of two components whose densities are 0.6 and 0.1."""
    return first * 0.6 / (first * 0.6 + second * 0.1)


eleven = torch.full((11,), 1 / 11, dtype=torch.float64)


def counted(loss=False):
    """How far a model is from the shares of ten draws, nats a draw; or its whole loss."""
    shares, model = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.5, 0.25, 0.25])
    return float(-(shares * (model if loss else model / shares).log()).sum())


half, apart = torch.tensor([0.5, 0.5]), torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
# Of each question whose answer is a number: that number and those of some mistakes, computed.
A = torch.tensor([[0.5, 2.0], [-1.0, 0.5]])  # of the linear field
J = torch.tensor([[1.0, 2.0], [4.0, 3.0]])  # whose trace is estimated


def by_signs():
    """The variance of v^T J v over the four pairs of signs."""
    v = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    return ((v @ J) * v).sum(1).var(correction=0)


def denoised(often=0.75, seen=2.0):
    """The posterior mean of 0 or 4 seen through noise of standard deviation 2; 0 comes with probability `often`."""
    points, log_p = torch.tensor([0.0, 4.0]), torch.tensor([often, 1 - often]).log()
    return float(torch.softmax(log_p + Normal(points, 2.0).log_prob(torch.tensor(seen)), 0) @ points)


def bayes():
    """How probable the second picture is, given the copy."""
    joint = torch.tensor([0.75 * 0.1, 0.25 * 0.6])
    return float(joint[1] / joint.sum())


def remembered():
    """The second eigenvalue of the chain of one fair pixel, hit with probability 0.2 by a fair coin."""
    C = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    return float(torch.linalg.eigvals(C @ C).abs().min())  # for a fair pixel the posterior is C again


def unit_given_another():
    """How probable the first of two units is on when the second is, coupled by log 3."""
    weights = torch.tensor([[1.0, 1.0], [1.0, 3.0]])  # of s_1 in the row, s_2 in the column
    return float(weights[1, 1] / weights[:, 1].sum()), float(weights[1].sum() / weights.sum())


def odd_parity(pixels=5):
    """KL of the images with an odd number of ones from fair coins, nats, by the sum."""
    odd = sum(bin(n).count("1") % 2 for n in range(2**pixels))
    return sum(1 / odd * math.log((1 / odd) / 2**-pixels) for _ in range(odd))


def free_energy_of_nothing(hidden=2):
    """Of an image in a machine whose weights are zero: minus the log of the number of hidden states."""
    return -math.log(len([0 for _ in range(2**hidden)]))


COMPUTED = {
    ("01", 1): (as_centre().mean(), [(trio - trio.mean()).square().sum(), as_centre().sum(), as_centre().mean() / 3]),
    ("01", 2): (next_is_4(2), [next_is_4(1), next_is_4(0), next_is_4(2, 6)]),
    ("01", 3): ((1.5 + 0.5) / (4 - 2), [1.5 + 0.5, (1.5 + 0.5) / 4, (5 + 3) / 2]),
    ("01", 5): (owned(0.25, 0.75), [owned(0.5, 0.5), 0.25 * 0.6, 1 - owned(0.25, 0.75)]),
    ("02", 0): (counted(), [counted(loss=True), counted(loss=True) - counted(), 10 * counted(), counted() / math.log(2)]),
    ("02", 3): (-math.log(0.8), [math.log(5), 0.2, -math.log2(0.8), -0.8 * math.log(0.8)]),
    ("02", 5): (tv_floor(1000, eleven), [0, tv_floor(1000, eleven) / 11, 2 * tv_floor(1000, eleven), (10 / 1000) ** 0.5]),
    ("03", 2): (101 * 100 / 2 / 100, [101, 100, running_sum(lambda i: i), running_sum(lambda i: i - 1)]),
    ("03", 4): (bits(), [bits(base=math.e), bits(per_pixel=False), bits() * math.log(2) ** 2, -bits()]),
    ("04", 0): (mask("A"), [mask("B"), 2 * 5, 5 * 5 - 1]),
    ("04", 2): (28 + 28 - 1, [28, 28 + 28, 28 * 28, 28 - 1]),
    ("04", 5): (256 * 256 / 256, [16, 256 * 256]),
    ("05", 0): (blind(lambda d: d), [blind(lambda d: 9), blind(lambda d: d - 1)]),
    ("05", 2): (gate_slope(), [0.5 * (1 - 0.5)]),
    ("06", 0): (stretched(), [4, 4 * stretched(), -stretched()]),
    ("06", 3): (places(16), [places(1), places(8), places(128), 16 * 2]),
    ("06", 5): (forgotten(2), [forgotten(math.e), 256, 0]),
    ("07", 0): (0.08 / 2**4, [0.08 / 2, 0.08 / 2**2, 0.08 / 2**3]),
    ("07", 2): (torch.matrix_exp(A).logdet(), [-A.trace(), A.det(), A.sum(), torch.matrix_exp(A).det()]),
    ("07", 3): (by_signs(), [by_signs() / 2, 2 * (2**2 + 4**2), 2 * ((J + J.T) / 2).square().sum(), by_signs() ** 0.5]),
    ("08", 0): (3 + 10 * 4, [4 + 10 * 4, 10 * 4, 2**10 - 1, 3 + 10]),
    ("08", 1): (1.5 + 0.5, [6 + 3, 0.5, 6 + 3 + 1.5 + 0.5, (1.5 + 0.5) / 2]),
    ("08", 3): (denoised(), [denoised(often=0.5), denoised(seen=-90.0), denoised(often=0.25)]),
    ("08", 4): (0.1 / 0.5**2, [0.1 / 0.5, 0.1 * 0.5**2, -0.1 / 0.5**2, 0.1]),
    ("09", 1): (kl(), [2 * kl(), kl() / 2]),
    ("09", 2): (-90.0 + 93.5, [-93.5 + 90.0, 90.0 + 93.5]),
    ("10", 1): (6.0 - 5.0, [12 - 5, 6 + 5, 12 + 6 - 5]),
    ("10", 2): (0.1 * math.sqrt(4), [0.1 * 4, 0.1 / math.sqrt(4), 0.1 / 4]),
    ("11", 0): (unit_given_another()[0], [0.5, 1 - unit_given_another()[0], unit_given_another()[1]]),
    ("11", 2): (odd_parity(), [0, odd_parity() / math.log(2), math.log(32), math.log(16)]),
    ("11", 3): (
        free_energy_of_nothing(),
        [math.log(4), 0, free_energy_of_nothing(1), free_energy_of_nothing() - 3 * math.log(2)],
    ),
    ("11", 5): (math.log((1 + 3) / 2), [(math.log(1) + math.log(3)) / 2, math.log(1 + 3), (1 + 3) / 2]),
    ("12", 0): (bayes(), [0.6 / (0.1 + 0.6), 0.25 * 0.6, 1 - bayes(), 0.25]),
    ("12", 2): (remembered(), [remembered() ** 0.5, 0.2, 1 - remembered(), 1 - 0.2 / 2]),
    ("12", 3): (0.5 * 0.5 + 0.5 * 0.5, [0, 0.5 * 0.5, 1]),
    ("13", 0): (0.6 / (0.6 + 0.2), [0.6 / 0.2, 0.2 / (0.6 + 0.2), 0.6 - 0.2]),
    ("13", 1): (value(half, half), [-value(half, half), math.log(0.5), jsd(half, half)]),
    ("13", 2): (slope(losses.non_saturating, 0.25), [slope(losses.minimax, 0.25), 1 / 0.25, 0.25 * 0.75]),
    ("14", 0): (rows(padding=1), [(4 + 2 - 4) // 2 + 1, rows(), rows() + 2]),
    ("14", 3): (middle(lambda a, b: (a + b) / 2), [middle(lambda a, b: a), middle(torch.add), middle(lambda a, b: a / 2)]),
    ("15", 0): (jsd(*apart), [2 * jsd(*apart), jsd(half, half)]),
    ("15", 1): (wasserstein([0, 3], [1, 1]), [abs(1.5 - 1), 2 * wasserstein([0, 3], [1, 1]), jsd(*apart)]),
    ("15", 2): (penalty(), [(25 - 1) ** 2, (3 - 1) ** 2 + (4 - 1) ** 2, penalty() ** 0.5, ((3 - 1) ** 2 + (4 - 1) ** 2) / 2]),
    ("16", 0): (median((0, 2, 10), (0.3, 0.3, 0.4)), [0.3 * 2 + 0.4 * 10, 10, (0 + 10) / 2]),
    ("16", 1): (
        receptive_field(((4, 2), (4, 2), (3, 1))),
        [receptive_field(((4, 1), (4, 1), (3, 1))), 4 * 4 * 3, 1 + 6 + 12 + 8],
    ),
    ("16", 4): (matching(), [0.3 / (0.3 + 0.1 + 0.3), 0.3 / (0.3 + 0.3), 0.3 / (0.3 + 0.1)]),
    ("17", 0): (math.log(100), [-math.log(0.99), math.log10(100), math.log2(100), 99]),
    ("17", 2): (2 * 0.8 - 1, [0.8, 0.8 - 0.5, 2 * (1 - 0.8)]),
    ("17", 4): ((70 + 30) / 2, [70, 30, 0.7 * 0.3 * 100]),
    ("17", 6): (100 * 40 / (40 + 10), [100 * 10 / (40 + 10), 100 * 10 / 40, 100 * Staircase().target]),
    ("18", 0): ((1 - 0.2) * (1 - 0.5), [0.2 * 0.5, 1 - 0.8 * 0.5, 1 - 0.2 - 0.5, (0.8 * 0.5) ** 0.5]),
    ("18", 2): (0.3 * 1 / (0.3 * 1 + 1 - 0.3), [0, 1 - 0.3, 1]),
    ("18", 3): (-0.8 / (1 - 0.75) ** 0.5, [0.8 / 0.5, -0.8 / (1 - 0.75), -0.8 * 0.5, -0.8 / 0.75**0.5]),
    ("19", 1): (90 - 86, [86 - 90, 86, 4 / 90]),
    ("19", 3): (2 - 3 * math.log(4), [2, 2 - math.log(4), 2 + 3 * math.log(4)]),
    ("19", 9): (upwards(5), [upwards(5, padding=0), downwards(5), (5 - 1) * 2]),
    ("19", 11): (2 * 50, [50, 1.5 * 50, 200]),
    ("15", 3): (began(), [0.4 - began(), began(gamma=1.0), began(step=1.0), began() - 0.2]),
}
NUMBERS = [(number, i) for number in chapters() for i, question in enumerate(chapter(number)) if isinstance(question, Number)]


def test_there_is_a_self_test_of_about_six_questions_for_each_chapter_that_promises_one():
    assert chapters() == tuple(f"{number:02}" for number in range(1, 20))
    assert all(6 <= len(chapter(number)) <= 7 for number in chapters() if number != "19")
    assert 10 <= len(chapter("19")) <= 14  # it goes over the whole book, a question or so from each part
    assert set(COMPUTED) == set(NUMBERS)


@pytest.mark.parametrize("where", NUMBERS, ids=[f"{number}.{i + 1}" for number, i in NUMBERS])
def test_numbers_are_what_a_computation_gives(where):
    number, i = where
    question = chapter(number)[i]
    answer, mistakes = COMPUTED[where]
    assert abs(answer - question.answer) <= question.within
    for mistake in mistakes:
        assert min(abs(mistake - value) for value, _ in question.mistakes) <= question.within, mistake


def test_numbers_in_choices_are_what_a_computation_gives():
    assert f"{math.log(14):.2f}" == "2.64" and f"{math.log2(14):.2f}" == "3.81"
    assert 0.15 > 3 * 0.04 and 0.15 < 0.30


def test_the_right_answer_is_neither_always_in_one_place_nor_always_the_longest():
    choices = [[q for q in chapter(number) if isinstance(q, Choice)] for number in chapters()]
    assert all(len({q.right for q in questions}) >= 3 for questions in choices)
    everywhere = [sum(q.right == place for questions in choices for q in questions) for place in range(4)]
    total = sum(everywhere)
    assert max(everywhere) < 0.4 * total
    longest = sum(max(q.options, key=lambda o: len(o[0])) == q.options[q.right] for questions in choices for q in questions)
    assert longest < 0.4 * total


def test_every_answer_gets_a_reason_of_its_own():
    for number in chapters():
        for question in chapter(number):
            if isinstance(question, Choice):
                reasons = [why for _, why in question.options]
            else:
                reasons = [question.why, question.hint, *(why for _, why in question.mistakes)]
            assert len(set(reasons)) == len(reasons) and min(map(len, reasons)) >= 15, question.text


def test_marks_become_html():
    assert marked_up("$p(x_i | x_{<i})$") == "<i>p</i>(<i>x</i><sub><i>i</i></sub> | <i>x</i><sub>&lt;<i>i</i></sub>)"
    assert marked_up("$e^{a_k - b}$") == "<i>e</i><sup><i>a</i><sub><i>k</i></sub> \u2212 <i>b</i></sup>"
    assert marked_up("$log 10^2$ in `a_b`, *not* a") == "log 10<sup>2</sup> in <code>a_b</code>, <em>not</em> a"
    with pytest.raises(ValueError, match="dollar sign is missing"):
        marked_up("$x")
    for number in chapters():
        words = re.sub(r"<[^>]*>", "", SelfTest(number).fallback())
        assert not re.search(r"[$`*^{}\\]|(?<![a-z])_|_(?=[({])", words), number


def test_without_scripts_a_number_stands_apart_from_its_reason():
    assert "<p>0.5. one over two</p>" in SelfTest([NUMBER]).fallback()


CHOICE = Choice("Which is $x^2$ at 3?", (("6", "that is $2x$"), ("9", "yes indeed"), ("3 < 4", "no")), right=1)
NUMBER = Number("Half of one?", 0.5, 0.01, "one over two", ((2.0, "you have doubled"), (-0.5, "the sign")), "divide by two")


@pytest.fixture
def opened(visit, tmp_path):
    SelfTest([CHOICE, NUMBER]).save(tmp_path / "own.html")
    SelfTest("09").save(tmp_path / "chapter.html")
    with serve(tmp_path) as address:

        def open_page(name="own", **options):
            seen = visit(**options)
            seen.page.goto(f"{address}{name}.html")
            seen.page.get_by_role("button", name="check").wait_for()
            return seen

        yield open_page


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def says(page):
    return page.get_by_role("status").text_content()


@pytest.mark.browser
def test_every_answer_is_answered_and_the_first_one_counts(opened):
    seen = opened()
    page = seen.page
    region = page.get_by_role("region", name="Self-test")
    assert region.get_by_text(PRACTICE).is_visible() and region.get_by_text("Question 1 of 2").is_visible()
    assert page.get_by_role("group").first.locator("legend").inner_html() == "Which is <i>x</i><sup>2</sup> at 3?"
    assert page.get_by_role("button", name="next question").is_disabled()
    press(page, "check")
    assert says(page).startswith("No answer yet.") and page.get_by_role("button", name="next question").is_disabled()
    for option, said in (("6", "✗ Not quite. that is 2x"), ("3 < 4", "✗ Not quite. no"), ("9", "✓ Right. yes indeed")):
        page.get_by_label(option, exact=True).check()
        press(page, "check")
        assert says(page) == said
    press(page, "next question")
    box = page.get_by_label("Your answer, a number")
    for given, said in (
        ("a half", "No answer yet. Write a number, such as 0.5, \u22121.2 or 1/3."),
        ("0.5", "✓ Right. one over two"),
        ("1/2", "✓ Right. one over two"),
        ("0,505", "✓ Right. one over two"),
        ("\u2212.5", "✗ Not quite. the sign"),
        ("2", "✗ Not quite. you have doubled"),
        ("0.52", "✗ Not quite. divide by two"),
        ("1/2/3", "No answer yet. Write a number, such as 0.5, \u22121.2 or 1/3."),
    ):
        box.fill(given)
        press(page, "check")
        assert says(page) == said
    press(page, "see the score")
    assert page.get_by_text("1 of 2 right at the first try.").is_visible()
    assert page.get_by_role("listitem").all_text_contents() == ["✗ question 1: not at once", "✓ question 2: right at once"]
    page.get_by_role("button", name="question 1: not at once").click()
    assert page.get_by_text("Question 1 of 2").is_visible() and page.get_by_role("button", name="next question").is_enabled()
    press(page, "next question")
    press(page, "see the score")
    press(page, "try again")
    assert page.get_by_text("Question 1 of 2").is_visible() and page.get_by_role("button", name="next question").is_disabled()
    assert not seen.errors and not seen.elsewhere


@pytest.mark.browser
def test_the_keyboard_alone_suffices(opened):
    page = opened().page
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")  # from the first through the second to the third, and back: moving is not answering
    page.keyboard.press("ArrowUp")
    assert says(page) == ""
    page.keyboard.press("Enter")
    assert says(page) == "✓ Right. yes indeed"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("0.5")
    page.keyboard.press("Enter")
    assert says(page) == "✓ Right. one over two"
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.get_by_text("2 of 2 right at the first try.").is_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.get_by_text("Question 1 of 2").is_visible()


@pytest.mark.browser
@pytest.mark.parametrize("number", chapters())
def test_the_page_finds_the_right_answers_of_every_chapter_right_and_no_other(visit, number):
    script = """async ([source, questions]) => {
      const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
      const tries = (q) => q.options ? q.options.map((_, i) => i) : [q.answer, ...q.mistakes.map((m) => m.value)];
      return questions.map((q) => tries(q).map((given) => module.judge(q, given)));
    }"""
    questions = SelfTest(number).state["questions"]
    judged = visit().page.evaluate(script, [SelfTest.module.read_text(encoding="utf-8"), questions])
    for question, sent, verdicts in zip(chapter(number), questions, judged, strict=True):
        right = question.right if isinstance(question, Choice) else 0
        assert [v["right"] for v in verdicts] == [i == right for i in range(len(verdicts))]
        own = sent["options"] if isinstance(question, Choice) else [{"why": sent["why"]}, *sent["mistakes"]]
        assert [v["why"] for v in verdicts] == [o["why"] for o in own]


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_finger_works_on_a_narrow_phone(opened, dark):
    page = opened("chapter", width=360, height=800, dark=dark, touch=True).page
    for _ in range(6):
        options = page.locator("label.option")
        if options.count():
            options.first.tap()
        else:
            page.get_by_label("Your answer, a number").fill("1")
        page.get_by_role("button", name="check").tap()
        assert re.match("✓ Right|✗ Not quite", says(page))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        boxes = [b.bounding_box() for b in page.locator("button, label.option").all()]
        assert all(b["height"] >= 24 and b["width"] >= 24 and b["x"] + b["width"] <= 360 for b in boxes)  # WCAG 2.2, 2.5.8
        page.locator("button").last.tap()
    assert page.get_by_text("of 6 right at the first try.").is_visible()


@pytest.mark.browser
def test_without_scripts_it_is_text_with_folded_answers(browser, tmp_path):
    SelfTest([CHOICE, NUMBER]).save(tmp_path / "own.html")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "own.html").as_uri())
    assert page.get_by_text(PRACTICE).is_visible() and page.get_by_text("Half of one?").is_visible()
    answer = page.get_by_text("yes indeed")
    assert not answer.is_visible()
    page.get_by_text("Answer").first.click()
    assert answer.is_visible()
    context.close()


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="1600"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", SelfTest([CHOICE, NUMBER]).to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.get_by_label("9", exact=True).nth(1).check()
    frame.get_by_role("button", name="check").nth(1).click()
    assert frame.get_by_role("status").all_text_contents() == ["", "✓ Right. yes indeed"]
    assert not seen.errors


def test_the_output_is_html_and_text_and_the_same_bytes_each_time():
    bundle = SelfTest("03")._repr_mimebundle_()
    assert bundle == SelfTest("03")._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "<img" not in bundle["text/html"] and bundle["text/html"].count("</script>") == 1
    key = re.search(r'<div id="(self_test-[0-9a-f]{16})"', bundle["text/html"])
    assert key and key[1] not in SelfTest("04").to_html()
    assert "   b) Because each factor sums to one" in bundle["text/plain"] and "\n6. " in bundle["text/plain"]
    assert "Only the last factor" not in bundle["text/plain"]  # no answers without unfolding
    state = SelfTest("03").state
    assert json.loads(json.dumps(state)) == state


def test_the_widget_starts_from_the_same_state_and_python_sees_the_answers():
    widget = SelfTest([CHOICE, NUMBER]).widget()
    assert (widget.at, widget.answers) == (0, [])
    widget.set_state({"at": 1, "answers": [True]})  # what the browser sends
    assert (widget.at, widget.answers) == (1, [True])


def test_chapters_show_the_questions_as_they_are_now():
    shown = {}
    for path in sorted((Path(__file__).parents[2] / "book").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and (call := re.fullmatch(r'explorers\.SelfTest\("(\d\d)"\)', cell.source)):
                assert call[1] == path.name[:2]
                shown[call[1]] = "".join(output.data["text/html"] for output in cell.outputs)
    assert {"03", "04", "05", "09"} <= set(shown)
    for number, html in shown.items():
        assert html == SelfTest(number).to_html(), f"run chapter {number}'s last code cell again"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SelfTest("20"), ValueError, "no self-test for chapter '20'; there are: 01, 0"),
        (lambda: SelfTest([]), ValueError, "at least one question"),
        (lambda: SelfTest(["What is x?"]), TypeError, "a Choice or a Number, not str"),
        (lambda: Choice("?", (("a", "b"), ("c", "d")), right=2), ValueError, "the right option is 2, but there are 2"),
        (lambda: Number("?", 1.0, 0.1, "", ((1.1, ""),), ""), ValueError, "cannot be told apart"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_file_of_questions_is_read_as_it_is_written():
    choice = '[[question]]\ntext = "Which?"\noptions = [["this", "because"], ["that", "not"]]\nright = 0\n'
    number = '[[question]]\ntext = "How many?"\nanswer = 3\nwithin = 0.5\nwhy = "w"\nmistakes = [[1, "one"]]\nhint = "h"\n'
    one, two = read(choice + number, "99.toml")
    assert one == Choice("Which?", (("this", "because"), ("that", "not")), 0)
    assert two == Number("How many?", 3, 0.5, "w", ((1, "one"),), "h")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text = 'a", "99.toml is no TOML"),
        ("[[questions]]\ntext = 'a'", r"99.toml has questions, but \[\[question\]\] is all"),
        ("", "99.toml has nothing"),
        ("[[question]]\ntext = 'a'\noptions = [['b', 'c'], ['d', 'e']]", "question 1 in 99.toml: .*right"),
        ("[[question]]\ntext = 'a'\noptions = [['b', 'c'], ['d']]\nright = 1", "question 1 in 99.toml: not enough values"),
        ("[[question]]\ntext = 'a'\noptions = [['b', 'c'], ['d', 'e']]\nright = 2", "question 1 in 99.toml: Choice: the right"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_question(text, message):
    with pytest.raises(ValueError, match=message):
        read(text, "99.toml")
