"""Talking with a model at a terminal: what `pannier run` is made of."""
