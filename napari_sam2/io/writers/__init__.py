"""Label stacks and tables on disk, and the formats of other programs."""
