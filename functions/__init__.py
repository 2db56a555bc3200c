"""Examples that run: `fanout send functions/events/signup.json`, or `document.json` beside it."""
