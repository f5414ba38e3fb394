"""Demo mode only: invented children behind a small FHIR server, and a service that drafts drugs for testers."""
