"""Table workloads: reading, splitting and encoding tables."""
