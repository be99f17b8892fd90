"""From a reference to plain, checked layers: nothing that a registry or the host says is believed here."""
