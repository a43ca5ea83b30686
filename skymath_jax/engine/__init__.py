"""The decoder as an engine: compiled programs over slots, continuous batching, and the in-process generator.

Knows no JetStream, no gRPC and no HTTP: those are `server`'s. From the outside in:

- `generator`: `LocalGenerator`, a thread that serves requests while there are any;
- `batching`: `Loop`, which job is in which slot, and what becomes of the tokens that come out;
- `engine`: `Engine`, one decoder on its devices; prompts in, keys and values out, in pieces that `prefix` keeps;
- `slots`: `Slots`, the state on the device and the calls that fill, run and free its slots;
- `programs`: the compiled functions that all of this calls, with `sampling` and `weights` inside them; `sizes` says
  for which sizes they are compiled, `warm_up` compiles them all.
"""
