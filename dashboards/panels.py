"""Grafana's JSON, as small functions: a panel is a question, a way to show the answer, and where the colour changes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]

DATASOURCE = {"type": "influxdb", "uid": "vitalane-influxdb"}
GREEN, YELLOW, ORANGE, RED, DARK_RED, BLUE, GREY = "green", "yellow", "orange", "red", "dark-red", "blue", "text"

NOTICE = (
    "**Secondary notification.** This is no medical device and no primary alarm: it does not replace the monitors at the bedside, "
    "the loggers in the load, or the people who watch them."
)


class Steps(NamedTuple):
    """Where the colour changes: the first colour holds below the first bound."""

    below: str
    bounds: Sequence[tuple[float, str]] = ()


class Place(NamedTuple):
    """A panel's place on Grafana's grid of 24 columns."""

    x: int
    y: int
    width: int
    height: int


def target(query: str, alias: str = "", ref: str = "A", result: str = "time_series") -> Json:
    """Return one question. `alias` names the series, with `$tag_subject` and its like."""
    asked = {"refId": ref, "datasource": DATASOURCE, "rawQuery": True, "resultFormat": result, "query": query}
    return asked | ({"alias": alias} if alias else {})


def timeseries(title: str, place: Place, targets: list[Json], unit: str, steps: Steps, *, show_bounds: bool = True) -> Json:
    """Return lines over time, with the bounds drawn where there are any."""
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 0,
        "showPoints": "auto",
        "spanNulls": False,  # a gap is not a value
        "thresholdsStyle": {"mode": "line" if steps.bounds and show_bounds else "off"},
    }
    options = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return _panel("timeseries", title, place, targets, _defaults(unit, steps, custom), options)


def stat(title: str, place: Place, targets: list[Json], unit: str, steps: Steps, *, no_value: str = "-", named: bool = False) -> Json:
    """Return one figure, or one for each series with its name."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "value_and_name" if named else "value",
        "orientation": "auto",
    }
    return _panel("stat", title, place, targets, _defaults(unit, steps, {}) | {"noValue": no_value}, options)


def states(title: str, place: Place, targets: list[Json], mapping: Mapping[str, tuple[str, str]]) -> Json:
    """Return what state each series was in over time; `mapping` is value -> (text, colour)."""
    options = {"mergeValues": True, "showValue": "auto", "alignValue": "left", "rowHeight": 0.8}
    return _panel("state-timeline", title, place, targets, _mapped(mapping), options)


def alert_timeline(title: str, place: Place, query: str, mapping: Mapping[str, tuple[str, str]]) -> Json:
    """Return the phases of alerts over time, a line for each subject and rule."""
    panel = states(title, place, [target(query, result="table")], mapping)
    panel["transformations"] = [
        {"id": "organize", "options": {"excludeByName": {"revision": True}}},
        {"id": "partitionByValues", "options": {"fields": ["subject", "rule"], "keepFields": False, "naming": {"asLabels": True}}},
    ]
    return panel


def table(title: str, place: Place, query: str, mapping: Mapping[str, tuple[str, str]], instants: Sequence[str]) -> Json:
    """Return rows as they are; `mapping` colours the column `phase`, `instants` are milliseconds since the epoch."""
    panel = _panel("table", title, place, [target(query, result="table")], {"custom": {"align": "auto"}}, {"showHeader": True})
    coloured = {"id": "custom.cellOptions", "value": {"type": "color-text"}}
    panel["fieldConfig"]["overrides"] = [
        _override("phase", [{"id": "mappings", "value": _mapped(mapping)["mappings"]}, coloured]),
        *(_override(name, [{"id": "unit", "value": "dateTimeAsIso"}]) for name in instants),
    ]
    return panel


def text(place: Place, content: str) -> Json:
    """Return a panel of prose."""
    panel = _panel("text", "", place, [], {}, {"mode": "markdown", "content": content})
    del panel["datasource"], panel["targets"]
    return panel | {"transparent": True}


def dashboard(uid: str, title: str, panels: list[Json], *, subjects: str, noun: str, span: str, refresh: str, alerts: str) -> Json:
    """Return a dashboard with one variable, `subject`, and the alert events as annotations."""
    return {
        "uid": uid,
        "title": title,
        "tags": ["vitalane"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": refresh,
        "time": {"from": f"now-{span}", "to": "now"},
        "templating": {"list": [_variable(subjects, noun)]},
        "annotations": {"list": [_annotation(alerts)]},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


def _panel(kind: str, title: str, place: Place, targets: list[Json], defaults: Json, options: Json) -> Json:
    return {
        "type": kind,
        "title": title,
        "gridPos": {"x": place.x, "y": place.y, "w": place.width, "h": place.height},
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": targets,
    }


def _defaults(unit: str, steps: Steps, custom: Json) -> Json:
    bounds = [{"color": steps.below, "value": None}, *({"color": colour, "value": bound} for bound, colour in steps.bounds)]
    return {"unit": unit, "color": {"mode": "thresholds" if not custom else "palette-classic"}, "custom": custom} | {
        "thresholds": {"mode": "absolute", "steps": bounds}
    }


def _mapped(mapping: Mapping[str, tuple[str, str]]) -> Json:
    shown = {value: {"text": words, "color": colour, "index": index} for index, (value, (words, colour)) in enumerate(mapping.items())}
    return {"custom": {"fillOpacity": 80, "lineWidth": 0}, "mappings": [{"type": "value", "options": shown}]}


def _override(name: str, properties: list[Json]) -> Json:
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def _variable(query: str, noun: str) -> Json:
    return {
        "name": "subject",
        "label": noun,
        "type": "query",
        "datasource": DATASOURCE,
        "query": query,
        "refresh": 2,  # when the time range changes
        "sort": 1,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _annotation(query: str) -> Json:
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": RED,
        "query": query,
        "textColumn": "rule",
        "tagsColumn": "phase,subject",
    }
