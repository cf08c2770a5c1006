"""From a detector's maps to objects: NumPy, SciPy and scikit-image only."""
