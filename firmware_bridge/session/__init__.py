"""Capture sessions: from a plan and the file of a bench to sealed frames, with all that is needed to believe them."""
