"""One database behind a workspace: its engine, its tables with their history, its files."""
