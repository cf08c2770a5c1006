"""The façade: what a notebook, the command line and the windows call."""
