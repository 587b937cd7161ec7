"""A whole workspace in one file, and the way back."""
