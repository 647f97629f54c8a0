"""What a shard, an index, a manifest and a part are: pure values and bytes, no I/O."""
