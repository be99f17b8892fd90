"""Who signed what: signature policies and cosign signatures."""
