"""The product's own directory on this host."""
