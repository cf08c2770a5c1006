"""Stacks from files, one module a format."""
