"""Test doubles that are shipped, for our tests, our benchmarks and yours: an engine and a teacher without a model."""
