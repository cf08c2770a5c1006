"""Reports, charts and overview pictures."""
