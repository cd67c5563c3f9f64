"""Bodies that numbers of shape and pose move: data for one and the same skinning, wherever they come from."""
