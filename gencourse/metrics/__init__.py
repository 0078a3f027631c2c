"""How generative models are evaluated (slides 113-115, 128, and chapter 17)."""
