"""Images made from descriptions, the same bytes on every machine."""
