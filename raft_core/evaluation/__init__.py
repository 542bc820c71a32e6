"""What is measured: benchmarks, verifiable instructions, metrics with intervals, the gate."""
