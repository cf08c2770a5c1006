"""For tests of this package and of what others add to it: exact scenes, a toy model, contract suites. No torch."""
