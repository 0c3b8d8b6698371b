"""What is known of a run: seen on the disk, kept in the database, shown to people."""
