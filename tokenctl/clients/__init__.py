"""What speaks to services that are not ours: Gemini, its keys, and what may be sent to it."""
