"""Photographs of people as files: reading and writing them whole, their faces, their protection and its check."""
