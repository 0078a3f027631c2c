"""Chapter 04: PixelRNN and PixelCNN."""

from gencourse.explorers.questions import Choice, Number

QUESTIONS = (
    Number(
        "The first layer of a PixelCNN for grey images has a window of 5×5. How many of its 25 weights does its mask leave?",
        answer=12,
        within=0.4,
        why="Mask A leaves the two rows above and two places to the left: $(5^2 - 1)/2 = 12$. The centre is hidden.",
        mistakes=(
            (13, "That is mask B, with the centre. In the first layer the centre is the pixel to be predicted."),
            (10, "The rows above have ten. In its own row the pixels to the left are known too."),
            (24, "Only the centre would be hidden then; the pixels to the right and below come later."),
        ),
        hint="Count the places before the centre, row by row.",
    ),
    Choice(
        "The features of a colour image are dealt to red, green and blue. In a layer with mask B, which features at its own "
        "place may a green one read?",
        (
            (
                "None: the centre is hidden.",
                "Across colours the centre is not hidden. Red is drawn before green, so green may know it, with either mask.",
            ),
            (
                "Those of red.",
                "That is mask A. The features of green in later layers were made without the green pixel, so they may be seen.",
            ),
            (
                "Those of red and green.",
                "Mask B is $β ≤ α$: red comes before green, and green's own features have not seen the green pixel.",
            ),
            (
                "Those of red, green and blue.",
                "The features of blue know the green pixel, for blue is drawn after it. That would be a leak.",
            ),
        ),
        right=2,
    ),
    Number(
        "A Diagonal BiLSTM walks over the skewed map of a 28×28 image. How many steps does one of its LSTMs take, one after the "
        "other?",
        answer=55,
        within=0.4,
        why="Row $r$ is moved to the right by $r$ places, so the map has $H + W - 1 = 55$ columns, a step each.",
        mistakes=(
            (28, "That is the Row LSTM: a row a step."),
            (56, "Nearly. The last row is moved by $H - 1$ places, not by $H$."),
            (784, "That is a step a pixel. The pixels of a diagonal do not depend on each other and are computed at once."),
            (27, "That is by how much the last row is moved. The width comes on top."),
        ),
        hint="How wide is the image when each row is moved one place further than the one above?",
    ),
    Choice(
        "Which earlier pixels does a Row LSTM never see, however long it is trained?",
        (
            (
                "Those beside the triangle above the pixel.",
                "A state reads three states of the row above, so information spreads by about a column a row. What is near in "
                "height and far to the side is out of reach.",
            ),
            (
                "Those many rows above: an LSTM forgets them.",
                "It may forget them, but it can see them: they lie inside the triangle.",
            ),
            (
                "All to the right of the pixel's column.",
                "That is nearer to the blind spot of a PixelCNN. The Row LSTM's triangle opens to both sides.",
            ),
            (
                "None: the recurrence reaches every pixel.",
                "The Diagonal BiLSTM was invented for that. Differentiate a conditional, and find the zeros.",
            ),
        ),
        right=0,
    ),
    Choice(
        "Your PixelCNN's test loss is 0.4 nats where honest models need 17. What do you do first?",
        (
            (
                "Compare training and test loss.",
                "They will agree. A leak shows the answer in every image, in training and test alike.",
            ),
            (
                "Lower the learning rate.",
                "Training works very well here: it has found the way round.",
            ),
            (
                "Add dropout, since the network is large enough to overfit.",
                "Overfitting shows on the test set as a loss that is too large. This one is too small.",
            ),
            (
                "Differentiate the conditionals by the pixels.",
                "If a conditional depends on its own pixel or a later one, a mask is wrong. Mask B in the first layer is the "
                "classic.",
            ),
        ),
        right=3,
    ),
    Number(
        "An image of 16×16 pixels is drawn, once with one pass of the network a pixel, once with kept activations. How many "
        "times fewer columns of features does the second way compute?",
        answer=256,
        within=0.4,
        why="Plainly each of the $D = 256$ passes computes all $D$ columns; with kept activations it computes one. The images "
        "are the same.",
        mistakes=(
            (16, "That is the side. The features of every pixel are computed anew at every pixel: count pixels, not rows."),
            (65536, "That is how many columns plain sampling computes, $D · D$. Divide by what is left."),
            (1, "The number of draws is the same, one a pixel. The work for each is not."),
        ),
        hint="Plain sampling computes $D$ columns for each of $D$ pixels.",
    ),
)
