"""Where other tools import the JetStream engine from; it lives in `server.jetstream`."""
