"""Run folders: settings in layers, the environment of a run, and its results on disk."""
