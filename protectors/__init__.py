"""Protectors of photographs, one file per method, behind the protocol of ``faces.protection`` and one registry.

``protectors.registry.make_protector("pixelate:cells=16")`` makes one from its name. Each file says what it claims and
what it stores; no protector imports another. What all of them share stands in ``protectors.base``.
"""
