"""Files and folders that are there whole or not at all, and held to a hash when they are read."""
