"""Frame tables: made by one decode, followed by every later one. Uses PyAV."""
