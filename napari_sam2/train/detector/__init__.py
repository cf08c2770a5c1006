"""Training of the learned detector: data, synthetic scenes, targets, loss, resumable loop."""
