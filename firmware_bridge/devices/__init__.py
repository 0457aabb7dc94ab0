"""Drivers of cameras, masks, lights and stages, one file each, for the protocols of ``firmware_bridge.protocols``."""
