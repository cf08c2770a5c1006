"""Constants of SAM 2 (Ravi et al. 2024) that several parts of the package must agree on.

The names in brackets are those of Meta's code.
"""

from __future__ import annotations

ABSENT_LOGIT = -1024.0
"""Mask logit of every cell of an absent object (``NO_OBJ_SCORE``)."""

MASK_PROMPT_LOGIT = 10.0
"""Mask logit inside a mask prompt; minus this outside (``_use_mask_as_output``)."""

MAX_PREVIOUS_LOGIT = 32.0
"""Previous logits are clamped to ± this before they are a prompt (``add_new_points_or_box``)."""

MEMORY_MASK_SCALE, MEMORY_MASK_BIAS = 20.0, -10.0
"""Mask probabilities in memory are scaled by these (``sigmoid_scale/bias_for_mem_enc``)."""

MULTIMASK_MAX_POINTS = 1
"""Up to this many points, three masks are offered; a box is two (``multimask_max_pt_num``)."""

STABILITY_MARGIN = 0.05
"""Mask logits within ± this are uncertain (``dynamic_multimask_stability_delta``)."""

STABILITY_THRESHOLD = 0.98
"""A single mask less stable than this is replaced (``dynamic_multimask_stability_thresh``)."""

MEMORY_SLOTS = 7
"""Memories shown together: one slot of conditioning frames, the rest tracked (``num_maskmem``)."""

RECENT_MEMORIES = MEMORY_SLOTS - 1
"""Tracked frames whose memories are shown."""

OBJECT_POINTERS = 16
"""Frames whose object pointers are shown (``max_obj_ptrs_in_encoder``)."""
