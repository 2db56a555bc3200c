"""The JSON API: all that the dashboard shows and can do, for programs."""
