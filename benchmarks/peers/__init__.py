"""The same work on fanout and on others, side by side: `python -m benchmarks.peers`."""
