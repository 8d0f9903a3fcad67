"""The merge file: its fields, its two formats, and the models that it names."""
