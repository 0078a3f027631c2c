"""How generative models are evaluated (slides 113-115, 128, and chapter 17).

Chapter 17 is to come; `kernel_distance`, `precision_recall`, `parzen_estimate` and `effective_sample_size` wait for it.
"""
