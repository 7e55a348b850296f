"""How sure decibans make: one temperature, fitted, and the bounds of what is claimed.

Evidence is neither as independent as it is weighed nor are its weights measured, so its sum is
divided by a temperature before it is called a probability.  Fitted on the even seeds of
``make bench-diagnosis`` alone by ``tests/bench/diagnosis_temperature.py`` (24 November 2026: 10,820
looks at 464 replicas with a fault; log loss 0.1046 at 0.9, 0.1049 at 0.8, 0.1048 at 1.0, and 0.1140
at the 1.5 that was judged before).  Simulated faults are cleaner than real ones: nothing is claimed
beyond ``MOST``.
"""

from __future__ import annotations

TEMPERATURE = 0.9
LEAST, MOST = 0.05, 0.95
# What is most probable, while it is not named: of 173 such looks at even seeds 58 were right.
MOST_UNDETERMINED = 0.5
