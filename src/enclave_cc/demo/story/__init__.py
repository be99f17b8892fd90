"""What happens, in order: successes, refusals, and what is found on the host."""
