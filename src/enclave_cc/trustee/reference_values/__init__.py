"""The values that the owner expects evidence to show."""
