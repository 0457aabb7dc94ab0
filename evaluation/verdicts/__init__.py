"""From measured rows to what a run says: claims, orderings, certificates, tables and presets."""
