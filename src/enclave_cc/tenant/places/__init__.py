"""Where images live: registries, layouts and archives behind two ports, so that tools take any of them."""
