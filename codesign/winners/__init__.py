"""The camera of pairs under design: kernels, masks that realise them, a decoder of places, and what is left of people.

:mod:`codesign.winners.kernels` trains matched filters and read-out together, :mod:`codesign.winners.masks` finds the
reliefs, :mod:`codesign.winners.decoder` turns places into landmarks, :mod:`codesign.winners.stage` holds the jobs of
``optishield train-mask``.
"""
