"""Worlds with known truth: refrigerated vehicles, patients, scripted incidents, replay of files, and their way to the broker."""
