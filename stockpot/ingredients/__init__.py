"""How ingredients come to be: fine-tuned by a sweep, or imported."""
