"""What is measured by hand: python3 -m tests.benchmarks.NAME."""
