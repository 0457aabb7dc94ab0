"""The firmware of the controller, in C: ``src`` for all boards, ``host`` as a program, ``avr`` for a real chip."""
