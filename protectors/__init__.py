"""Face protectors, one file per published method, behind one small protocol and a registry.

The room is not filled yet: no protector exists today. Each file will name its paper, its threat
model and what it stores; no protector will import another.
"""
