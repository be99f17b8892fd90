"""How registries ask for credentials and how container tools keep them: texts in, values out, no IO."""
