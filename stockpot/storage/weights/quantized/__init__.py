"""Quantised models: recognised by config and tensors, dequantised where the rule is public."""
