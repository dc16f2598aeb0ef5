"""Turns what the mechanisms tell about themselves into metrics and log lines."""

from __future__ import annotations

from tokenctl.resilience import events
from tokenctl.telemetry import catalog, logs
from tokenctl.telemetry.metrics import Metrics


def observer(metrics: Metrics) -> events.Emit:
    """A listener that counts in `metrics` and logs."""

    def observe(event: events.Event) -> None:
        match event:
            case events.QueryDone(operation, outcome, duration_s):
                metrics.observe(catalog.DB_QUERY_DURATION, duration_s, operation=operation)
                metrics.count(catalog.DB_QUERIES, operation=operation, outcome=outcome)
                logs.emit("debug", "query", query=operation, outcome=outcome, duration_s=round(duration_s, 6))
            case events.Retried(policy, fault, attempt, wait_s):
                metrics.count(catalog.RETRIES, policy=policy, fault=fault)
                logs.emit("info", "retry", policy=policy, fault=fault, attempt=attempt, wait_s=round(wait_s, 3))
            case events.BreakerMoved(breaker, state):
                metrics.count(catalog.BREAKER_TRANSITIONS, breaker=breaker, state=state)
                logs.emit("warning" if state == "open" else "info", "breaker", breaker=breaker, state=state)
            case events.BreakerRefused(breaker):
                metrics.count(catalog.BREAKER_REFUSALS, breaker=breaker)
                logs.emit("info", "breaker_refused", breaker=breaker)
            case events.RateChecked(action, allowed):
                outcome = "allowed" if allowed else "refused"
                metrics.count(catalog.RATE_LIMIT_CHECKS, action=action, outcome=outcome)
                if not allowed:
                    logs.emit("warning", "rate_limited", action=action)
            case events.CacheAsked(namespace, result):
                metrics.count(catalog.CACHE_REQUESTS, namespace=namespace, result=result)
                logs.emit("debug", "cache", namespace=namespace, result=result)
            case events.Trouble(what, why):
                metrics.count(catalog.STATE_TROUBLES, what=what)
                logs.emit("warning", "trouble", what=what, why=why)

    return observe
