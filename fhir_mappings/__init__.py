"""FHIR JSON -> facts: the only package that knows FHIR paths, code systems and units."""
