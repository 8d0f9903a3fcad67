"""Which ingredients a soup is made of, and with which coefficients."""
