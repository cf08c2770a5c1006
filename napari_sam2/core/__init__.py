"""The nouns: stacks, prompts, tracks, plans and results. No torch, no Qt, no files."""
