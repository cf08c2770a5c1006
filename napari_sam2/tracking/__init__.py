"""From detections on single frames to tracks: linking, divisions, merged objects, the pipeline."""
