"""Values, errors, findings and request ids: no IO, importable from every room."""
