"""Measurements: medians of interleaved runs, never a timed test."""
