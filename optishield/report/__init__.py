"""Reports: one page of HTML for a run, with its figures, pictures and tables."""
