"""How generative models are evaluated (slides 113-115, 128, and chapter 17): `report` compares any models of one data set.

`frechet` and `kernel` measure distances of features, `precision_recall` and `two_sample` look at neighbours, `memorisation` at
copies, `likelihood` at nats; `hype` scores people's answers. Each can be fooled, which chapter 17 shows; read them together.
"""

from gencourse.metrics.report import report as report
