"""The command line: one module per command, which parses, calls the public API and prints."""
