"""The mail client: connect to a server, send messages, return a reply for each recipient."""
