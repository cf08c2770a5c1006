"""Fine-tuning: clips with the truth, simulated prompts, the loop and its hooks."""
