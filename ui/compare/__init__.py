"""The Compare page: several ways to search, side by side."""
