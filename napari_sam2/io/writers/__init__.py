"""Write label stacks, in our own formats and in those of other programs."""
