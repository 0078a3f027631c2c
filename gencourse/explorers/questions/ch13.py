"""Chapter 13: generative adversarial networks."""

from gencourse.explorers.questions import Choice, Number

QUESTIONS = (
    Number(
        "At some point $x$ the data have density 0.6 and the generator 0.2. What does the best discriminator answer there?",
        answer=0.75,
        within=0.01,
        why="$D(x) = p/(p + q) = 0.6/0.8$: the probability that a point found here is real, if half of all points are.",
        mistakes=(
            (3, "That is the ratio $p/q$, the odds. A probability is odds over one plus odds."),
            (0.25, "That is the probability that the point is generated."),
            (0.4, "That is the difference of the densities. The answer is a share: $p/(p + q)$."),
            (0.6, "That is the density itself, which need not even be below one. Compare it with the generator's."),
        ),
        hint="Half of the points shown are real: of those at $x$, which share is?",
    ),
    Number(
        "The generator equals the data. What is the value of the minimax game, "
        "$E log D(x) + E log(1 - D(G(z)))$, at the best discriminator? (In nats, two decimals.)",
        answer=-1.386,
        within=0.01,
        why="$D = ½$ everywhere, so both terms are $log ½$: together $-log 4$, which is $2 JSD - log 4$ with JSD = 0.",
        mistakes=(
            (1.386, "That is the discriminator's loss. The value is its negative, what the discriminator raises."),
            (-0.693, "That is one of the two terms. Real and generated points each bring $log ½$."),
            (0, "Zero is the JSD. The value is $2 JSD - log 4$."),
            (0.5, "That is what the discriminator answers. Put it into the two logarithms."),
        ),
        hint="If nothing tells real from generated, the best $D$ is ½ everywhere.",
    ),
    Number(
        "For a generated point the discriminator's logit is $a$ with $sigmoid(a) = 0.25$. How large, in absolute value, is the "
        "derivative by $a$ of the *non-saturating* loss of the generator, $-log sigmoid(a)$?",
        answer=0.75,
        within=0.01,
        why="$-(1 - sigmoid(a)) = -0.75$. The surer the discriminator that the point is generated, the nearer to one.",
        mistakes=(
            (0.25, "That is the minimax loss $log(1 - sigmoid(a))$: it fades where the generator is worst."),
            (4, "That is the derivative of $-log D$ by $D$. By the logit, the slope of the sigmoid is a further factor."),
            (0.1875, "That is the slope of the sigmoid itself; the logarithm divides by sigmoid(a)."),
        ),
        hint="$(log sigmoid)' = 1 - sigmoid$.",
    ),
    Choice(
        "In the discriminator's move someone forgets to detach the generated points. What goes wrong?",
        (
            (
                "Nothing can: the discriminator's optimiser holds only the discriminator's weights.",
                "It will not move the generator. But `backward` has filled the generator's gradients, and if they are not zeroed "
                "before its own move, they are added to it.",
            ),
            (
                "The generator's weights collect a gradient that is not theirs.",
                "It is that of D's loss, and points the wrong way for G. Unless it is zeroed it spoils G's next move; it "
                "costs time in any case.",
            ),
            (
                "The discriminator gets no gradient.",
                "It gets its full gradient. It is the generator that gets one it should not.",
            ),
            (
                "The two losses become the same.",
                "The losses are computed as before. What changes is which weights receive a gradient.",
            ),
        ),
        right=1,
    ),
    Choice(
        "A GAN trained on ten digits draws nothing but threes, each of them perfect. What would have told you without looking?",
        (
            (
                "The discriminator's loss, which would be far from $log 4$.",
                "Not reliably: the players circle, and the loss may be anywhere. It measures this discriminator, not coverage.",
            ),
            (
                "The generator's loss, which would be high.",
                "Perfect threes may please the discriminator at this moment. A game's loss is no score.",
            ),
            (
                "A measure of how real a single image looks.",
                "Each image is perfect. What is missing is seen only in many of them together.",
            ),
            (
                "The number of samples in each class, by a classifier.",
                "Mode collapse is about which parts of the data are left out. Count them, and compare with the data.",
            ),
        ),
        right=3,
    ),
    Choice(
        "Beside each sample you show its nearest training image, by pixel distance. They differ clearly. What follows?",
        (
            (
                "The samples are not plain copies of training images.",
                "That, and no more. A copy moved by two pixels is far away in pixels; compare with the distances of test "
                "images, and look in a feature space too.",
            ),
            (
                "The generator has memorised nothing of the training set, in any form.",
                "Pixel distance misses shifted or brightened copies. It rules out exact ones only.",
            ),
            (
                "The generator covers the data.",
                "Coverage is another question: a generator of one single new image passes this test.",
            ),
            (
                "The likelihood of the test set is high.",
                "A GAN has no likelihood to ask for, and samples beside neighbours do not measure it.",
            ),
        ),
        right=0,
    ),
)
