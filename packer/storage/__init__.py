"""Where a data set lives: the one place that reads and writes it."""
