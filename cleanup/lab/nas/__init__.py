"""NAS roots as this host reaches them."""
