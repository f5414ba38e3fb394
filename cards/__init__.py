"""Findings -> CDS Hooks cards. No clinical decision is taken here."""
