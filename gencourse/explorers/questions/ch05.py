"""Chapter 05: blind spots, gates, the discretised logistic, mixtures, ablations."""

from gencourse.explorers.questions import Choice, Number

QUESTIONS = (
    Number(
        "Masked 3×3 convolutions, one after the other, on an image 6 pixels wide. How many earlier pixels does the pixel in row "
        "2, column 1 (counted from 0) never see, however many layers there are?",
        answer=5,
        within=0.4,
        why="One row up the columns 3, 4, 5 are out of reach, two rows up 4 and 5: $(6-1-1-1) + (6-1-1-2) = 3 + 2$.",
        mistakes=(
            (0, "Depth does not help: a hop to the left must also come from above, one column a row at most."),
            (7, "You have counted everything to the right of the column above as blind: a hop up brings one column with it."),
            (3, "That is the row above. There is a second row above that, with two more."),
        ),
        hint="In the row $d$ above, the pixel reaches $d$ columns to the right, no more. Count what is left of each row.",
    ),
    Choice(
        "Before the vertical stack sees the image, it is shifted down by one row. What happens without the shift?",
        (
            (
                "The blind spot comes back.",
                "It does not. The trouble is the opposite: too much is seen.",
            ),
            (
                "The first row has no context.",
                "With the shift it has none, which is right: nothing stands above it.",
            ),
            (
                "The pixel sees itself and the pixels to its right.",
                "The vertical stack's windows cover their own row on both sides. Only if that row is the one above, all of it is "
                "known.",
            ),
            (
                "Training slows down, and the result is otherwise the same.",
                "The loss falls far too well, for each pixel is copied from the input: it is no likelihood any more.",
            ),
        ),
        right=2,
    ),
    Number(
        "A gate computes $y = tanh(u) · sigmoid(t)$. What is $∂y/∂u$ at $u = 0$, $t = 0$?",
        answer=0.5,
        within=0.02,
        why="$(1 - tanh^2 u) sigmoid(t) = 1 · 0.5$: the slope of tanh at zero, let through by a gate that is half open.",
        mistakes=(
            (0.25, "That is the slope of the sigmoid. Differentiate by $u$: the sigmoid is a factor, with the value 1/2."),
            (0, "That is the value of $y$, and $∂y/∂t$. The slope of tanh at zero is one."),
            (1, "That is the slope of tanh alone; the gate is half open."),
        ),
        hint="The sigmoid does not depend on $u$: keep it as a factor, and differentiate tanh.",
    ),
    Choice(
        "How do you compute $log P(k) = log(sigmoid(b_k) - sigmoid(a_k))$ in single precision?",
        (
            (
                "As $log sigmoid(b_k) + log sigmoid(-a_k) + log(-expm1(a_k - b_k))$.",
                "The difference is a product in disguise, and its logarithm a sum. `expm1` computes $e^x - 1$ without a "
                "subtraction, so the last term survives wide bells too.",
            ),
            (
                "As $log sigmoid(b_k) + log sigmoid(-a_k) + log(1 - e^{a_k - b_k})$, term by term as written.",
                "Right for narrow bells. For a wide one $e^{a-b}$ rounds to one, and the last term is infinite: use `expm1`.",
            ),
            (
                "As $log(sigmoid(b_k) - sigmoid(a_k) + 10^{-8})$.",
                "Finite, and wrong: far from the mean the value is log 10⁻⁸ and the gradient zero, just where the model should "
                "learn most.",
            ),
            (
                "As the log-density in the middle of the level, plus the logarithm of the level's width.",
                "An approximation for scales that are large against a level. For a sharp bell it gives masses above one.",
            ),
            (
                "With `log_softmax` over the 256 levels.",
                "That is another model, the first PixelCNN's. Here the masses sum to one without any normalisation.",
            ),
        ),
        right=0,
    ),
    Choice(
        "One mixture of $K$ components serves red, green and blue. Someone draws green from the mixture's *original* weights "
        "instead of the ones updated by red. What is lost?",
        (
            (
                "Nothing on average: the weights are probabilities.",
                "The weights of green are right on average, but no longer those that go with the red that was drawn.",
            ),
            (
                "The probabilities of all colours of a pixel no longer sum to one.",
                "Each factor is still a distribution. It is another one: a product in which each colour picks for itself.",
            ),
            (
                "Green can no longer be drawn after red.",
                "It can; the order is the same. What is missing is what red has told about the component.",
            ),
            (
                "The colours of a pixel may come from different components.",
                "The component is shared. Red makes some components likelier, and $p(g | r)$ weighs by these responsibilities.",
            ),
        ),
        right=3,
    ),
    Choice(
        "An ablation with five seeds a row. Without gates the test loss is higher by 0.15 nats on average; the 95 % interval of "
        "the five paired differences is 0.15 ± 0.22. For one of the seeds, the standard error over the test images is 0.04. "
        "What do you write?",
        (
            (
                "Gates help: the difference is nearly four standard errors.",
                "That error says how the test images scatter. It does not know that a training from another seed ends elsewhere.",
            ),
            (
                "These runs do not tell whether gates help.",
                "The interval over seeds contains zero, and seeds are what an ingredient has to stand up against.",
            ),
            (
                "Gates do not help.",
                "No evidence for a difference is not evidence for none: 0.3 nats would fit these runs too.",
            ),
            (
                "Pairing is wrong here; take the error of each loss by itself.",
                "Hard digits are hard for both models. Pairing removes that, and is what makes small differences visible.",
            ),
        ),
        right=1,
    ),
)
