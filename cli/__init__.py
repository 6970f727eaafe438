"""One door: the commands, and the composition root where adapters are chosen."""
