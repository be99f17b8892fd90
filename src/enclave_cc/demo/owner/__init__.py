"""What the image owner does: keys, policies, publishing."""
