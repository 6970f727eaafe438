"""The Bytewax dataflow: wiring, source, shard step and outbox. What is decided is decided in `rules`; nothing here decides."""
