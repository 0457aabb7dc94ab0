"""From light to numbers: pixels, noise and quantisation, colour mosaics, and reports after EMVA 1288."""
