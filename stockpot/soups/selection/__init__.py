"""Which ingredients go into a soup; every choice is made by val scores alone."""
