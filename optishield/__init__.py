"""The application: command line, settings, run folders, reports, bench, self-examination.

It joins the rooms: what is measured, learned or judged is computed in them, and reports arrange and draw it. Importing
it, or asking for ``--help``, does not load torch.
"""

from __future__ import annotations

__version__ = "0.1.0"
