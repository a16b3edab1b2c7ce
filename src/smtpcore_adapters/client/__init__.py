"""The mail client: connecting, sending messages, and what the server answered."""
