"""The disk. No Django here: these modules can be read, tried and trusted alone."""
