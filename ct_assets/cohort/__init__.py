"""Who is in the cohort and why: audits, labels, eligibility, manifest, split ledger, drift."""
