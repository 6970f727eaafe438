"""The vocabulary of the house: what flows between its rooms, as data. Imports nothing of ours and nothing but the standard library."""
