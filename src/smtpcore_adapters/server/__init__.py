"""The server: accepting connections, running sessions, and calling the handlers of an `App`."""
