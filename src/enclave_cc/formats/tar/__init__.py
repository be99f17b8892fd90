"""The tar stream of an image layer: headers read incrementally, file data never kept."""
