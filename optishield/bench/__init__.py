"""The bench at a terminal: drivers by name, the checklist, the live view and its keys."""
