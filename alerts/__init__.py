"""What happens to an alert once it is decided: who is told, in which words, and with which names left out."""
