"""The SPARN JAK-inhibitor guideline as data, and the small engine that reads it.

Nothing here knows FHIR, HTTP, the clock or the network: facts go in, findings come out.
"""
