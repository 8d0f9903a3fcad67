"""Files on disk and how they are written whole: weights, store, manifests, keys, locks."""
