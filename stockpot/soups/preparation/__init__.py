"""Statistics of models on train that merge methods need, such as Fisher information."""
