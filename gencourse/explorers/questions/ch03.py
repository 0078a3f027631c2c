"""Chapter 03: the chain rule, FVBN, NADE, MADE, nats and bits."""

from gencourse.explorers.questions import Choice, Number

QUESTIONS = (
    Choice(
        "A network gives $p(x_i | x_{<i})$ for every pixel. Why does the product of these sum to one over all images, "
        "whatever the weights?",
        (
            (
                "Because maximum likelihood drives the sum to one.",
                "Then it would not hold for an untrained network. But it does: normalisation is built in, not learned.",
            ),
            (
                "Because each factor sums to one over its own pixel.",
                "Add up the last pixel first: only the last factor contains it. What is left is the same product, a pixel "
                "shorter.",
            ),
            (
                "Because the pixels are independent once the network is known.",
                "They are not: each conditional reads the pixels before. Independence would be a far weaker model.",
            ),
            (
                "It does not: the product must be divided by the sum over all images.",
                "That sum is one already. A model that needs it is a Boltzmann machine, not a chain of conditionals.",
            ),
        ),
        right=1,
    ),
    Choice(
        "In a world with fourteen equally likely images the entropy is $log 14 ≈ 2.64$ nats. Averaged over this world, a model's "
        "negative log-likelihood is 2.10 nats. What has happened?",
        (
            (
                "The model has found structure that the entropy does not know of.",
                "The entropy belongs to the world. No distribution can do better, since KL is never negative.",
            ),
            (
                "It has learned the fourteen images by heart.",
                "Learning them all by heart is the best one can do, and gives 2.64 exactly.",
            ),
            (
                "The number is in bits.",
                "A bit is less than a nat, so the same quantity in bits is a larger number: 2.64 nats are 3.81 bits.",
            ),
            (
                "The model is no distribution.",
                "The loss is the entropy plus a KL. Below the floor, it sees what it predicts or does not sum to one.",
            ),
        ),
        right=3,
    ),
    Number(
        "NADE has $D = 101$ pixels. How many times fewer multiplications does it take to compute the activations of all hidden "
        "layers with the running sum than term by term for every pixel?",
        answer=50.5,
        within=0.2,
        why="Term by term pixel $i$ costs $H(i-1)$, in all $H D(D-1)/2$. The running sum adds a column for every pixel but the "
        "last, $H(D-1)$. The ratio is $D/2$.",
        mistakes=(
            (101, "That is $O(H D^2)$ against $O(H D)$ by orders of magnitude; but a pixel sums over the earlier ones only."),
            (100, "You have $H D(D-1)$ on top. Pixel $i$ has $i - 1$ pixels before it, half of that on average."),
            (51, "Nearly: pixel $i$ sums over the $i - 1$ before it, not over $i$."),
            (50, "Nearly: nobody comes after the last pixel, so its column is never added. The running sum costs $H(D-1)$."),
        ),
        hint="Add up $H(i-1)$ over the pixels, and divide by what the running sum adds: a column after every pixel but the last.",
    ),
    Choice(
        "In MADE the output of pixel $i$ may read a hidden unit of degree $m$ only if $m < i$. Somebody writes $m ≤ i$. What "
        "will they see?",
        (
            (
                "The training loss falls to almost nothing, and the samples are black.",
                "A unit of degree $i$ may know pixel $i$, so the output copies what it should predict. In sampling there is "
                "nothing to copy yet but the empty canvas.",
            ),
            (
                "The training loss gets worse, for connections are missing.",
                "There are more connections than before, not fewer. One of them leads from a pixel to its own prediction.",
            ),
            (
                "An error when the network is called, since the mask no longer fits the weights.",
                "The shapes are the same. Nothing breaks, which is what makes the mistake so common.",
            ),
            (
                "A gap: good training loss, bad validation loss.",
                "That would be overfitting. A leak gives the answer away on validation images too.",
            ),
        ),
        right=0,
    ),
    Number(
        "A model of black and white images with 64 pixels gives an image $log p(x) = -22.18$ nats. How many bits per dimension "
        "is that? (Two decimals.)",
        answer=0.5,
        within=0.01,
        why="$22.18 / (64 log 2) = 0.50$: the sign is turned, divided by the pixels and by $log 2$. A fair coin a pixel has 1.",
        mistakes=(
            (0.35, "That is nats per dimension. Divide by $log 2 = 0.693$ too."),
            (32, "That is bits for the whole image. Divide by its 64 pixels."),
            (0.24, "You have multiplied by $log 2$. A nat is 1.44 bits, so the number must grow."),
            (-0.5, "The sign is turned: smaller is better, and a perfect compressor needs no negative bits."),
        ),
        hint="Bits per dimension are $-log p(x) / (D log 2)$.",
    ),
    Choice(
        "Eight orders of the pixels give eight probabilities $p_k(x)$ of the same image. What is the log-likelihood of their "
        "ensemble?",
        (
            (
                "The mean of the eight $log p_k(x)$.",
                "That is a lower bound, by the concavity of the logarithm. Exponentiated it does not sum to one.",
            ),
            (
                "The largest of the eight.",
                "Summed over all images the largest gives more than one: no distribution.",
            ),
            (
                "`logsumexp` of the eight $log p_k(x)$, minus $log 8$.",
                "The average of distributions is a distribution: $log (1/8) Σ_k p_k(x)$. "
                "It is never below the mean of the logarithms.",
            ),
            (
                "`logsumexp` of the eight $log p_k(x)$.",
                "The sum of eight distributions sums to eight. The $log 8$ is what is missing.",
            ),
        ),
        right=2,
    ),
)
