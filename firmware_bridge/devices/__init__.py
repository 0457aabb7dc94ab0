"""Drivers of cameras, masks, lights and stages, one file each, behind the protocols of ``firmware_bridge.protocols``."""
