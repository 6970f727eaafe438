"""Durable ordered streams: append, sync, read from an offset, consumer offsets, retention, verification.

One SQLite file is one stream with one writer and any number of readers. Start with `writer.py` and `reader.py`.
"""
