"""Where shards are made: each engine is a module of its own, imported when it is asked for."""
