"""Metrics, controls, intervals, plots and the report; `compare` samples the models and puts them together."""
