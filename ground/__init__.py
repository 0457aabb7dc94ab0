"""What every room stands on: atomic files, worker processes, and protocols of run folders and progress."""
