"""Destinations, one a file: stores keep what the outbox holds, channels tell people. Importing this package imports none of them."""
