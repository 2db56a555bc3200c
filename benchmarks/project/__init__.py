"""Functions that workloads run. Each module is copied, alone, into a temporary project."""
