"""From a recording to avatars: masks, poses, shapes and surfaces, learned together from the pictures."""
