"""Text workloads: reading and tokenising texts, pretrained models."""
