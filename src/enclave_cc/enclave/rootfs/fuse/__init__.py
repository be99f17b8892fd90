"""The kernel's questions, answered without libfuse: what is served and how, not where it is mounted."""
