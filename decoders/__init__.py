"""Bytes to readings: every form in which a device may speak, decoded purely. Nothing here knows a broker, a file or the clock."""
