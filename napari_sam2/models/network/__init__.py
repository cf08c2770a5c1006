"""SAM 2 and our small network as PyTorch modules."""
