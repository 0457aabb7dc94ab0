"""The commands, a file each: what a command line asks for, and nothing of how it is done."""
