"""Read stacks, prompts and project files; write labels, tables and provenance."""
