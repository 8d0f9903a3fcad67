"""An experiment from plan to verdict: jobs, stages, provenance, promotion, comparison."""
