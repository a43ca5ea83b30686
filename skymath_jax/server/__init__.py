"""Serving over the wire: gRPC as JetStream speaks it, an OpenAI-compatible HTTP front, and the process around both.

A request's way: `grpc` or `http` reads it, `driver` queues it, prefills it ahead of the slots and decodes it with
`engine`, and its tokens go back the same way (as text through `text`). Around that way:

- `serve`: from a model to a running server, and to a clean stop; `settings`: where it listens and whom it lets in;
- `process`: a server as a child process of a run;
- `chat`: messages to a prompt; `metrics`: what `/metrics` says;
- `jetstream`: the same engine for JetStream's stock orchestrator; `compat`: how JetStream is imported at all.

Nothing here imports JetStream until one of these is asked for.
"""
