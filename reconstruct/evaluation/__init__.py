"""How near a reconstruction is to the truth."""
