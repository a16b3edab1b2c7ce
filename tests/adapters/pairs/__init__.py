"""Each pair of documented options and extensions, tried together over a real socket on every adapter."""
