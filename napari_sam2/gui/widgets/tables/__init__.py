"""Tables and plots of counts, objects and tracks."""
