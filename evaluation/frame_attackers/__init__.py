"""Attackers on the frames of a camera: recognisers, inverters, and what the released landmarks alone give away."""
