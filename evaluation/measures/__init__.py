"""Measures of recognition, protection, quality and use, their statistics, and the gates that judge them."""
