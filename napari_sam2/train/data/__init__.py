"""Training data: annotated images, clips, augmentation, simulated prompts."""
