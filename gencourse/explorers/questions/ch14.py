"""Chapter 14: DCGAN."""

from gencourse.explorers.questions import Choice, Number

QUESTIONS = (
    Number(
        "A fractionally strided (transposed) convolution with kernel 4, stride 2 and padding 1 reads a map of 4×4. How many rows "
        "has its result?",
        answer=8,
        within=0.4,
        why="$(4 - 1) · 2 - 2 · 1 + 4 = 8$: kernel 4, stride 2 and padding 1 double every size.",
        mistakes=(
            (2, "That is the ordinary convolution, which halves. The transposed one goes the other way."),
            (10, "Without padding. In a transposed convolution padding takes rows away, here one at either end."),
            (12, "Here padding has been added. It is taken away: it undoes the padding of the convolution it transposes."),
        ),
        hint="$(n - 1) · stride - 2 · padding + kernel$.",
    ),
    Choice(
        "In which sense is a transposed convolution the transpose of a convolution?",
        (
            (
                "It is the inverse: given the convolution's result, it restores the convolution's input.",
                "It restores the shape, not the values. A transpose is an inverse for orthogonal matrices only.",
            ),
            (
                "Its kernel is reflected at the diagonal.",
                "It is not the small kernel that is transposed but the large matrix that the convolution is.",
            ),
            (
                "It multiplies by the transpose of the matrix that a convolution is.",
                "On flattened images a convolution is a matrix $C$, and $⟨C x, y⟩ = ⟨x, C^T y⟩$. It is also how a convolution's "
                "gradient goes back to its input.",
            ),
            (
                "Rows and columns of the image are swapped.",
                "The image is not turned. Input and output change their roles.",
            ),
        ),
        right=2,
    ),
    Choice(
        "Which of these is *not* one of DCGAN's rules?",
        (
            (
                "Batch normalisation in both networks, but not on the generator's output and the discriminator's input.",
                "It is one of them. On those two layers normalising made training unstable.",
            ),
            (
                "Max pooling in the discriminator, and its reverse in the generator.",
                "The rule is the opposite: strides instead of pooling, so that both networks learn how to change the size.",
            ),
            (
                "ReLU in the generator with a tanh at the end, leaky ReLU in the discriminator.",
                "It is one of them. Images are therefore scaled to [−1, 1].",
            ),
            (
                "No fully connected hidden layers.",
                "It is one of them.",
            ),
        ),
        right=1,
    ),
    Number(
        "Two latent vectors of 100 dimensions are drawn from a standard Gaussian. About how long is the vector half way between "
        "them on the straight line? (One decimal.)",
        answer=7.1,
        within=0.15,
        why="Half the sum has variance ½ in each dimension: $√(100/2) = 7.1$. Vectors from the prior have length 10, with hardly "
        "any as short.",
        mistakes=(
            (10, "That is the length of each end, and of the middle on the *spherical* path. The straight line cuts the corner."),
            (14.1, "That is the length of the sum. Half way is half the sum."),
            (5, "You have halved one of them. The other half is nearly at right angles, and adds: $√(5^2 + 5^2)$."),
            (0, "On average over draws the vector is zero, but its length is not."),
        ),
        hint="In high dimension independent Gaussian vectors are nearly at right angles, each about $√100$ long.",
    ),
    Choice(
        "For “smiling woman − neutral woman + neutral man” each of the three is the *average* of several latent vectors. Why?",
        (
            (
                "One vector alone need not lie in the latent space of the generator.",
                "Every vector is a possible $z$. Averages lie, if anything, too near the origin.",
            ),
            (
                "The generator needs batches.",
                "It makes do with a single $z$. What is sought is a $z$ that stands for a concept.",
            ),
            (
                "To make the images sharper.",
                "Sharpness is not the point; an average is shorter than a draw and may even be less typical.",
            ),
            (
                "One vector alone carries pose, hair and light too.",
                "In an average what differs between the examples cancels, and what they share stays. Single examples "
                "gave unstable results.",
            ),
        ),
        right=3,
    ),
    Choice(
        "You have many images and few labels. How do you use a trained DCGAN to classify, and how do you know that it helped?",
        (
            (
                "A linear classifier on features of the discriminator's layers, beside the same one on raw pixels.",
                "Without the second number the first means nothing. And each of the two needs a penalty chosen for it: with one "
                "for both, the penalty decides who wins.",
            ),
            (
                "The discriminator's answer, real or generated, as the class; it helped if the accuracy on the few labels is "
                "above chance.",
                "That answer is about one question only, and it is not yours. The layers beneath hold more.",
            ),
            (
                "The generator's $z$ of each image, by linear regression.",
                "A GAN has no encoder: nobody gives you the $z$ of an image.",
            ),
            (
                "Train all layers on the test images' labels.",
                "Then no images are left to test on.",
            ),
        ),
        right=0,
    ),
)
