"""The questions that the dashboards ask, as raw InfluxQL for InfluxDB 1.8 and 2.x: no retention policy, no query builder, no Flux.

Grafana replaces `$timeFilter`, `$__interval` and the variables. Times of the measurements are those of `sinks/points.py`: a reading's own
time, a window's start, the journal time at which an alert was decided.
"""

SUBJECT = '"subject" =~ /^${subject:regex}$/'
OPEN_WITHIN = "7d"  # an alert that is open longer than this is still open, but these panels no longer count it


def subjects(kind: str) -> str:
    """Ask which subjects of a kind there are; windows too, because readings need not be stored."""
    return f'SHOW TAG VALUES FROM /^(readings|windows)$/ WITH KEY = "subject" WHERE "kind" = \'{kind}\''


def readings(kind: str, metric: str, aggregate: str = "mean") -> str:
    """Ask for one metric over time, a series for each subject and device."""
    return (
        f'SELECT {aggregate}("value") FROM "readings" WHERE {_metric(kind, metric)} AND $timeFilter '
        'GROUP BY time($__interval), "subject", "device" fill(none)'
    )


def windows(kind: str, metric: str, field: str, aggregate: str) -> str:
    """Ask for one figure of the closed windows of a metric, a series for each subject."""
    return (
        f'SELECT {aggregate}("{field}") FROM "windows" WHERE {_metric(kind, metric)} AND $timeFilter '
        'GROUP BY time($__interval), "subject" fill(none)'
    )


def newest(kind: str, metric: str) -> str:
    """Ask for the newest value of a metric, for each subject."""
    return f'SELECT last("value") FROM "readings" WHERE {_metric(kind, metric)} AND $timeFilter GROUP BY "subject"'


def extreme(kind: str, metric: str, aggregate: str) -> str:
    """Ask for the least, the greatest or the sum of the newest values of all devices."""
    inner = f'SELECT last("value") AS "newest" FROM "readings" WHERE {_metric(kind, metric)} AND $timeFilter GROUP BY "device"'
    return f'SELECT {aggregate}("newest") FROM ({inner})'


def open_alerts(kind: str, severity: str) -> str:
    """Ask how many alerts stand open at a severity: those whose newest event is of it, and is neither an end nor a retraction."""
    inner = (
        f'SELECT last("revision") AS "revision", "phase" AS "newest", "severity" AS "now" FROM "alerts" '
        f'WHERE {_alerts(kind)} AND time > now() - {OPEN_WITHIN} GROUP BY "subject", "rule"'
    )
    return f'SELECT count("revision") FROM ({inner}) WHERE "newest" !~ /^(resolved|retracted)$/ AND "now" = \'{severity}\''


def alert_events(kind: str) -> str:
    """Ask for the alert events themselves, the newest first."""
    return (
        'SELECT "phase", "severity", "subject", "rule", "signal", "value", "threshold", "unit", "started_at_ms", "revision" '
        f'FROM "alerts" WHERE {_alerts(kind)} AND $timeFilter ORDER BY time DESC LIMIT 200'
    )


def alert_phases(kind: str) -> str:
    """Ask for the phases that alerts went through; a tag comes only beside a field."""
    return f'SELECT "revision", "phase", "rule", "subject" FROM "alerts" WHERE {_alerts(kind)} AND $timeFilter ORDER BY time ASC'


def _metric(kind: str, metric: str) -> str:
    return f"\"kind\" = '{kind}' AND \"metric\" = '{metric}' AND {SUBJECT}"


def _alerts(kind: str) -> str:
    return f"\"kind\" = '{kind}' AND {SUBJECT}"
