"""What benchmarks share: cases, peers, and how results are shown and checked."""
