"""The demo world: simulated persons, drawn."""
