"""Why a service hurts its users: the verdicts of its nodes, merged into one.

Each agent judges its own node and cannot see the others.  Here it shows whether all replicas tell
the same cause, or one is sick while the others are well; which upstream several of them wait for;
and what began anew just before.  ``gather`` makes a ``Case`` of what is stored, ``weigh`` a
``Diagnosis`` of the case: pure, so the case that a timeline keeps gives the same diagnosis again.
"""
