"""Serving over the wire: the engine behind JetStream's interface, gRPC, an OpenAI-compatible HTTP front, processes.

Nothing here imports JetStream until one of its parts is asked for.
"""
