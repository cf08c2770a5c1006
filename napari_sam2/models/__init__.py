"""Model weights, devices, and the networks that run them.

Besides `train`, this is the only layer that imports torch.
"""
