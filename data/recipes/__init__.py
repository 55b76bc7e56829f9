"""Recipes that make the sample town: its pictures, its films and the small encoder that understands them."""
