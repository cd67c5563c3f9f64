"""What a video of people is on disk: scene.json, and the folders of other programs."""
