"""The live log of `fanout dev watch`: what the engine writes, as facts, and those as lines or as JSON."""
