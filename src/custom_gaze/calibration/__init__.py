"""From base features to the exported network: corrections, linear probe, fine-tune, choice."""
