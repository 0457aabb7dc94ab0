"""Calibration procedures: each one a capture plan, a pure estimator and a gate that can refuse.

The room is not filled yet: no procedure exists today. It will fit the simulated camera to a real
one, and may import ``optics`` and the device protocols of ``firmware_bridge``.
"""
