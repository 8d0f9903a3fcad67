"""Image workloads: reading, batching, corrupting and classifying images."""
