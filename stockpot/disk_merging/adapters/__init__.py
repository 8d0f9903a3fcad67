"""LoRA adapters: merged, extracted from full models, and combined in a common space."""
