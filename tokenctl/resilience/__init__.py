"""Mechanism only: retry, circuit breaker, rate limit, cache. Each emits events and knows no logs or metrics."""
