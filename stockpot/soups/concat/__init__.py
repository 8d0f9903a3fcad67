"""Nets of one form side by side in one wider net: the exact ensemble of their outputs."""
