"""Correcting a finished analysis: strokes, prompts and links, what depends on them, the session they are kept in."""
