"""Whole random worlds: the real engine on a real journal, with everything around it played by one source of chance.

A seed is a world: functions, their rules, events, requests, edits, a clock that jumps, workers that die or are broken,
a disk that fills up or loses power, and an engine that crashes. An observer of its own sees every row that changes and
every message, and knows what must hold.
"""
