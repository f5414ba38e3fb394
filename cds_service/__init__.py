"""The CDS Hooks service: HTTP in, pipeline, HTTP out."""
