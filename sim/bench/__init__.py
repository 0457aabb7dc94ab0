"""The virtual bench: one light path from lamp over mask to camera, and devices in front of it."""
