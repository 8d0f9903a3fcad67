"""How good models are: val scores for choices, and the test split, which is opened here alone."""
