"""People as fields in a canonical pose, moved by their bodies and rendered layer by layer."""
