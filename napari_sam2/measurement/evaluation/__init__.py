"""Agreement of labels, tracks and counts with ground truth."""
