"""Why a reading or a message was quarantined. The values are durable: they are journalled, counted and shown."""

from enum import StrEnum


class Reason(StrEnum):
    UNMAPPED = "unmapped"  # no decoder claims the topic
    TOO_LARGE = "too_large"  # more bytes, readings or name than the limits allow
    MALFORMED = "malformed"  # not UTF-8, not JSON, cut off
    WRONG_TYPE = "wrong_type"  # JSON, but not of the documented form
    UNSUPPORTED_VERSION = "unsupported_version"  # a format version from the future
    DEVICE_MISMATCH = "device_mismatch"  # the payload claims another device than its topic
    UNKNOWN_DEVICE = "unknown_device"  # nobody registered it, and the registry takes no strangers
    UNKNOWN_METRIC = "unknown_metric"
    UNKNOWN_FIELD = "unknown_field"  # a key that the form does not have; the rest of the message was read
    NOT_MEASURED = "not_measured"  # a value by which the device says that it could not measure
    UNKNOWN_UNIT = "unknown_unit"
    UNIT_MISMATCH = "unit_mismatch"  # a known unit of another dimension
    NOT_FINITE = "not_finite"  # NaN or an infinity
    IMPLAUSIBLE = "implausible"  # outside what the quantity can be
    IMPOSSIBLE_TIME = "impossible_time"  # before 2000, or not a time at all
    FUTURE_TIME = "future_time"  # later than it was received by more than the allowed skew
    TOO_MANY_SERIES = "too_many_series"  # more different devices and metrics than a shard may hold
    TOO_LATE = "too_late"  # behind its series by more than the horizon
    FLOOD = "flood"  # more readings of a series than it may have: shed, only the counts stay
    NO_SESSION = "no_session"  # of Sparkplug: no BIRTH certificate is known that says what this means
    BAD_QUALITY = "bad_quality"  # the device itself says that the value is not to be used
