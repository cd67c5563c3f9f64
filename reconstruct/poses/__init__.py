"""Where bodies are and how they stand, to begin with: from keypoints, or from masks alone."""
