"""Words for pages, commands and the admin."""
