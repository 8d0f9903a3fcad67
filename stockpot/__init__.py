"""The library: fine-tuning, merging, selecting, tuning and judging; it knows nothing of Prefect."""
