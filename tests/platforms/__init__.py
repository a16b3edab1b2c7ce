"""The adapters on simulated systems: Windows with both of its event loops, and macOS."""
