"""A process of its own that tells a collector (OpenTelemetry's OTLP) of runs that have ended, as the journal has them.

The engine only names the runs, after the commit that ended them: what a collector does can't hold it up.
"""
