"""Models that answer while people wait."""
