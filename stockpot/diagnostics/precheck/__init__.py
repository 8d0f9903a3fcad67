"""What is checked of ingredients before any of them is merged."""
