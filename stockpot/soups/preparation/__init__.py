"""Side information that merge methods need of each model, computed from train: one file each."""
