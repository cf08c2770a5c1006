"""Weights: cards, checkpoints, devices, and the networks that run them.

The only layer, with `train`, that knows torch.
"""
