"""The image owner's tools: they see plaintext and keys, and run on the owner's own machine."""
