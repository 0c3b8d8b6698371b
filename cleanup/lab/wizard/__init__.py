"""The wizard's own configuration: read, and planned as roots and a policy."""
