"""Bridge to the bench: wire protocol, device drivers, reference firmware, capture sessions.

The room is not filled yet: nothing here talks to hardware today. It will import neither ``sim``
nor torch, so that it runs on the small computer beside the bench.
"""
