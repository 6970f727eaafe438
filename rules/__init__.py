"""Decide: rule documents, their conditions, and the evaluator that turns readings into alert events. Pure: no clock, no network, no files
but the documents themselves."""
