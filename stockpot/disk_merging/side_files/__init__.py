"""The files next to merged weights: copied ones, differences between models, the model card."""
