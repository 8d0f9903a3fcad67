"""Rounds of stockpot with Flower as the engine: clients may be other machines."""
