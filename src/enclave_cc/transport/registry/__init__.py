"""The registry client: moving bytes to and from registries, with whatever they ask for on the way."""
