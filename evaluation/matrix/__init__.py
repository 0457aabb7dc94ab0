"""The matrix: every protector against every attacker and recogniser, with gallery and probes clean or protected."""
