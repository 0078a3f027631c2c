"""Explicit, tractable: fully visible belief nets, from one logistic regression a pixel to PixelCNN++ (slides 18-30)."""
