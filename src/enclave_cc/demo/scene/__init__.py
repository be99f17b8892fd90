"""One directory with every process of the story in it, started in order and removed without a trace."""
