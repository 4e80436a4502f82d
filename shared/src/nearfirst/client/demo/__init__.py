"""`nearfirst demo`: the main job from data to figure, through the HTTP API alone."""
