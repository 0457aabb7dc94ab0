"""Bridge to the bench: wire protocol and link, device drivers, reference firmware, and capture sessions.

``wire`` speaks to a controller, ``devices`` holds one driver a file and the table of them, ``fw`` the firmware in C
and its emulator, and ``session`` takes the frames of a plan and seals them. The room imports neither ``sim`` nor torch,
so that it runs on the small computer beside the bench.
"""
