"""Words for people, for pages, commands and the admin."""
