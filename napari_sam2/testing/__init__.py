"""For tests of this package and of its extensions: exact scenes, a toy model and contracts.

Nothing here needs torch.
"""
