"""From a released key to a root file system that a container can run on, and back."""
