"""The owner's memory of every decision: hash-chained, append-only, with both values of every rule."""
