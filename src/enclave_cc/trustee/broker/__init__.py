"""The key broker over HTTP: handshakes, resources, administration, findings, explanations."""
