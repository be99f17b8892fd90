"""The settings inside initdata, one module per table."""
