"""Co-design of mask, decoder and adversaries: what ``optishield train-mask`` runs."""
