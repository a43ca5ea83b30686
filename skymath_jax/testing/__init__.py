"""Test doubles that are shipped, for our tests, our benchmarks and yours: engine, tokenizers and teacher."""
