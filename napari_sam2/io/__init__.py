"""Files: what comes in as a Stack or a PromptLog, and what goes out as labels, tables and provenance."""
