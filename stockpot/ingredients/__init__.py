"""Ingredients: fine-tuned by a sweep, or imported."""
