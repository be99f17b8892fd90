"""
Making the two enclaves' bundles from the installed package: a root file system each, measured as a whole.

This room copies files and never imports what it copies; the same inputs give the same measurement.
"""
