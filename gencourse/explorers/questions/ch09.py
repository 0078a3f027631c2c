"""Chapter 09: variational autoencoders."""

from gencourse.explorers.questions import Choice, Number

QUESTIONS = (
    Choice(
        "$p(x)$ could be estimated by drawing $z$ from the prior and averaging $p(x | z)$. Why is it not done?",
        (
            (
                "The estimate is biased: an average over few draws lies below the truth.",
                "It is right on average, for any number of draws. Bias appears only when the logarithm is taken.",
            ),
            (
                "The prior cannot be sampled.",
                "It is a standard Gaussian. That is why generating is easy.",
            ),
            (
                "Its relative variance grows exponentially with the latent dimension.",
                "Hardly any $z$ from the prior could have produced this image. The few that could decide the average, and are "
                "almost never drawn.",
            ),
            (
                "The decoder is not differentiable.",
                "It is a network like any other. The trouble is the integral over $z$.",
            ),
        ),
        right=2,
    ),
    Number(
        "An encoder answers with $μ = (1, -1)$ and $log s^2 = (0, 0)$. What is its KL divergence to the standard Gaussian prior, "
        "in nats?",
        answer=1,
        within=0.02,
        why="$½ Σ_j (μ_j^2 + s_j^2 - 1 - log s_j^2)$ is $½ · 1$ for each of the two dimensions.",
        mistakes=(
            (2, "The factor ½ is missing."),
            (0.5, "That is the mean over the two dimensions. Independent dimensions add."),
            (0, "The means do not cancel: each is squared."),
            (-1, "A KL is never negative. Check the signs, and that the output is taken for $log s^2$."),
        ),
        hint="$½ Σ_j (μ_j^2 + s_j^2 - 1 - log s_j^2)$ with $s_j^2 = e^0 = 1$.",
    ),
    Number(
        "An image has $log p(x) = -90.0$ nats, and the bound is $-93.5$. What is the KL from $q(z | x)$ to the true posterior?",
        answer=3.5,
        within=0.05,
        why="The gap of the bound is exactly that KL: $log p(x) - ELBO = 3.5$. A better encoder closes it.",
        mistakes=(
            (-3.5, "A KL is never negative: the bound lies below the log-likelihood."),
            (183.5, "Subtract the bound from the log-likelihood; both are negative."),
        ),
        hint="What is the difference between the log-likelihood and its bound? Not the KL to the prior, which is part of the "
        "bound.",
    ),
    Choice(
        "Why is $z$ computed as $μ + s ε$ with $ε$ from a standard Gaussian, and not just drawn from $q(z | x)$?",
        (
            (
                "The distribution of $z$ is then closer to the prior.",
                "The distribution is exactly the same either way.",
            ),
            (
                "A drawn number is a constant to autograd.",
                "Computed like this, $z$ has a derivative by $μ$ and $s$: the randomness comes from outside.",
            ),
            (
                "Without it no unbiased gradient exists.",
                "There is one, the score function's. It is unbiased as well, but far noisier.",
            ),
            (
                "To save a draw.",
                "There is still one draw for each image. What changes is what can be differentiated.",
            ),
        ),
        right=1,
    ),
    Choice(
        "`F.binary_cross_entropy_with_logits(logits, x)` averages over pixels. Someone adds to it the KL, summed over latent "
        "dimensions. What comes of it?",
        (
            (
                "Only the scale of the loss: a matter of the learning rate.",
                "One term is scaled and the other is not, so their balance changes.",
            ),
            (
                "The KL is drowned by the reconstruction, and samples from the prior are poor.",
                "The other way round: dividing the reconstruction by $D$ makes the KL $D$ times as heavy.",
            ),
            (
                "Nothing: the constants belong to the optimiser.",
                "Adam does not care for a factor of the whole loss. This is a factor of one of its parts.",
            ),
            (
                "The codes carry nothing, and all reconstructions look alike.",
                "The KL weighs $D$ times too much, so the encoder answers with the prior for every image: posterior collapse.",
            ),
        ),
        right=3,
    ),
    Choice(
        "Your log shows a KL of −0.4 nats, from the closed form. What is it?",
        (
            (
                "The encoder's output is taken for $log s^2$ in one place and for $log s$ in another.",
                "Then the formula is no KL any more, and may be negative. An output read in one wrong way throughout, a variance "
                "for its logarithm, gives a wrong KL, but never a negative one.",
            ),
            (
                "Noise from the one draw of $z$.",
                "The closed form has no draw in it.",
            ),
            (
                "An encoder that has become narrower than the prior.",
                "Then the KL is large: $-log s^2$ grows. It is never negative, and zero only at the prior itself.",
            ),
            (
                "Rounding.",
                "Rounding gives $-10^{-7}$, not −0.4.",
            ),
        ),
        right=0,
    ),
)
