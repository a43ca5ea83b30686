"""The decoder as an engine: compiled programs over slots, continuous batching, and the in-process generator.

Knows no JetStream, no gRPC and no HTTP: those are `server`'s.
"""
