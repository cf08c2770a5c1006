"""The verbs: carry prompted tracks through a video, keep what they leave behind, settle overlaps."""
