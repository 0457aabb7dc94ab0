"""Stand-ins for everything physical: the encoder camera, and a virtual bench.

``sim.camera`` is the camera that co-design trains: optics, field stop and sensor at their real geometry. ``sim.bench``
is a bench without hardware: twins of mask, camera, light and stage that keep to the device protocols, an emulated GigE
camera that sees what the emulated firmware shows, and faults to be put between a session and its devices. Scenes with
faces come from ``faces`` and ``codesign``.
"""
