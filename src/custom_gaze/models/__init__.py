"""The gaze network, its heads, its checkpoint, and ONNX in and out."""
