"""Where the contract of design.md says that the JetStream engine is found; it lives in `server.jetstream`."""
