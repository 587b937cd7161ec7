"""What of a workspace is damaged or lost."""
