"""Where the face is in a frame, and the crop that is cut there."""
