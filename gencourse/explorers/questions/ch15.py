"""Chapter 15: losses for stable GANs."""

from gencourse.explorers.questions import Choice, Number

QUESTIONS = (
    Number(
        "The data lie on a line segment, the generator's points on a parallel one at distance 0.5. What is the Jensen-Shannon "
        "divergence of the two, in nats? (Two decimals.)",
        answer=0.693,
        within=0.01,
        why="They share no point, so JSD has its largest value, $log 2$, at any distance but zero. Its slope by the distance is "
        "zero: nothing tells the generator which way to go.",
        mistakes=(
            (0.5, "That is the Wasserstein distance, which does see how far apart the lines are."),
            (1.386, "That is $2 JSD$. In the value of the game it makes up for the $-log 4$."),
            (0, "Zero is reached only when the two distributions are equal."),
        ),
        hint="If nothing is shared, one look at a point tells where it comes from.",
    ),
    Number(
        "On a line the data put mass ½ on 0 and ½ on 3; the generator puts all its mass on 1. What is the Wasserstein distance "
        "between them?",
        answer=1.5,
        within=0.02,
        why="Half of the mass moves by 1 and half by 2: $½ · 1 + ½ · 2$.",
        mistakes=(
            (0.5, "That is the distance of the means. Mass that moves left does not make up for mass that moves right."),
            (3, "The distances are weighted by the mass that moves, ½ each."),
            (0.693, "That is the Jensen-Shannon divergence of disjoint distributions."),
            (2, "That is the largest distance that any mass moves. The plan's cost is the average."),
        ),
        hint="How far does each half of the mass have to go to 1?",
    ),
    Choice(
        "What does the least-squares loss do to generated points that lie on the *right* side of the discriminator's border, but "
        "far beyond it?",
        (
            (
                "Nothing: they are classified as real already, and their gradient has vanished.",
                "That is the sigmoid's behaviour, which saturates there. Least squares has no flat side.",
            ),
            (
                "It pulls them back towards the border, the harder the farther they are.",
                "The loss is the squared distance of the output from its target, so its slope grows with that distance.",
            ),
            (
                "It pushes them further away, as real points should be.",
                "The target is a number, 1, not infinity. Overshooting costs as much as falling short.",
            ),
            (
                "It clips the discriminator's weights.",
                "Clipping belongs to the first Wasserstein GAN.",
            ),
        ),
        right=1,
    ),
    Choice(
        "You draw a histogram of a Wasserstein critic's weights after training with clipping. What do you expect?",
        (
            (
                "A bell around zero, as with a gradient penalty.",
                "Clipping bounds the weights, and the critic wants the steepest slope it can get within the bounds.",
            ),
            (
                "All weights near zero: clipping shrinks them.",
                "It does not shrink, it cuts. What pulls weights to zero is weight decay.",
            ),
            (
                "Weights beyond the bound, for the critic is not limited.",
                "After every update each weight is brought back to the bound.",
            ),
            (
                "Many weights at one end of the range or the other.",
                "To be as steep as possible, weights run into the bounds. The critic is then a simple function; a penalty on the "
                "slope itself leaves it freer.",
            ),
        ),
        right=3,
    ),
    Number(
        "A critic is linear, $f(x) = w · x$ with $w = (3, 4)$. What is its gradient penalty $(|∇f| - 1)^2$?",
        answer=16,
        within=0.4,
        why="The gradient is $w$ everywhere, of length 5: $(5 - 1)^2 = 16$, wherever the mixing puts the point.",
        mistakes=(
            (576, "That is $(|w|^2 - 1)^2$. Take the root before the one is subtracted."),
            (13, "That is $(3-1)^2 + (4-1)^2$, a norm for each coordinate. The norm goes over all of them together."),
            (4, "The square is missing."),
            (6.5, "That is the mean over coordinates of $(w_j - 1)^2$. First the norm over all coordinates, then the square."),
        ),
        hint="The gradient of a linear function is $w$. What is its length?",
    ),
    Number(
        "BEGAN: $k = 0.20$, $γ = 0.5$, the step is 0.1. The reconstruction errors are 0.6 for real and 0.2 for generated images. "
        "What is the next $k$?",
        answer=0.21,
        within=0.004,
        why="$k + 0.1 · (γ · 0.6 - 0.2) = 0.20 + 0.1 · 0.1$. Generated images are reconstructed too easily, so the discriminator "
        "should mind them more.",
        mistakes=(
            (0.19, "The sign is turned. If generated images are below the balance, $k$ rises."),
            (0.24, "$γ$ is missing: the balance is at $γ$ times the real images' error."),
            (0.3, "The step of 0.1 is missing."),
            (0.01, "That is the change. Add it to the old $k$."),
        ),
        hint="$k + step · (γ L(x) - L(G(z)))$.",
    ),
    Choice(
        "Loss A reaches a Fréchet distance of 12, loss B of 14: one run each, and only A was tuned. What can be said?",
        (
            (
                "A is better: a lower Fréchet distance is better, and tuning is part of any method.",
                "Two numbers with unknown scatter. Seeds and settings often spread wider than losses.",
            ),
            (
                "B is better, for it was not tuned.",
                "It might be, or not. This comparison cannot tell.",
            ),
            (
                "Nothing, before both are searched with the same care, at one budget, and compared over several seeds.",
                "In the large comparison of Lucic and others (2018) no loss was consistently best once budgets were equal.",
            ),
            (
                "The Fréchet distance is useless.",
                "It measures something. What is missing is knowing how much it varies.",
            ),
        ),
        right=2,
    ),
)
