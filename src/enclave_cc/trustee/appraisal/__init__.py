"""From evidence to a signed statement about it: verification, comparison, policy, token."""
