"""What admins ask in the browser of a host with staging disks: looks at paths, and registrations."""
