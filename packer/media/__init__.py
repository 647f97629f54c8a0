"""Media that is made or changed, as against copied."""
