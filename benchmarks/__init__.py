"""Commands that print every figure the README and the documents state."""
