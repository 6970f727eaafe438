"""From the broker to the journal, and from bytes to readings. What is received is durable before it is acknowledged."""
