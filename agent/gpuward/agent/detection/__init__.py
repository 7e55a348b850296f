"""Statistics that tell a change from chance: pure, of plain numbers, without numpy.

Each module is one method and knows nothing of signals, windows or services; what they are fed with,
and what their answers are called on the page, is the business of samplers and detectors.
"""
