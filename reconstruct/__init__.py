"""Several people from one video, as a layered scene: a field for each person, and one for what is behind them.

recording (frames, cameras, masks, bodies) -> avatars and a background -> a Field at each frame -> files
"""
