"""Records become samples: what stands in the shard, one module a task."""
