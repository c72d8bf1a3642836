"""What every part stands on: errors, whole files, untrusted input, the terminal, provenance."""
