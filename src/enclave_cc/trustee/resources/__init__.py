"""The secrets that the broker releases."""
