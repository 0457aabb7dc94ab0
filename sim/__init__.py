"""Stand-ins for everything physical: scenes in front of a camera and the encoder camera itself.

Virtual masks, cameras and lights that answer on the wire of the bench will live here too.
"""
