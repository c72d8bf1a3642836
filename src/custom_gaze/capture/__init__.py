"""Pages in the browser that this machine alone can open: a session captured there."""
