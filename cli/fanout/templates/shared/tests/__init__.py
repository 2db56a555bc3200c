"""A package, so that pytest finds the package `functions` beside it."""
