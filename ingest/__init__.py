"""From the broker to the journal. What is received is durable before it is acknowledged."""
