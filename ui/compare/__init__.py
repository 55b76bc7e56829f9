"""The Compare page: contenders side by side."""
