"""The wire to the controller of a bench: one schema, its codec, the link, and the serial port below it."""
