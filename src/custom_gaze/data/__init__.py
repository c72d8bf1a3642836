"""Sessions, what `prepare` makes of them, and the index: frames, targets and their split."""
