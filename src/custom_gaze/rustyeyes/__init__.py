"""The RustyEyes app: its contract for models, and deploying into its folder and back."""
