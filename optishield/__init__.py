"""The application: command line, configuration, run folders, reports, doctor.

It joins the rooms and holds no mathematics. Importing it, or asking for ``--help``, does not load torch.
"""

from __future__ import annotations

__version__ = "0.1.0"
