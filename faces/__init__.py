"""Face data: sources with exact identities and landmarks, recognisers, alignment and splits.

Nothing is imported here, so that ``import faces`` stays cheap; import the submodule you need
(``faces.samples``, ``faces.synthetic``, ``faces.recognisers``, ...).
"""
