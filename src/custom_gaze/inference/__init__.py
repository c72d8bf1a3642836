"""The exported network at work: on images and live."""
