"""The policies that hold until the owner sets others; they are data, read when they are needed."""
