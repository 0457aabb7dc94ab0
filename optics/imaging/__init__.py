"""From pupil to picture: point-spread functions, on and off the axis, and what happens to an image on its way."""
