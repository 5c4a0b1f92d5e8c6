"""Counts of what a server did, in the text format that Prometheus reads."""

from collections import defaultdict

_HELP = {
    "hiss_requests_total": "Requests that were answered, by route and status.",
    "hiss_jobs_total": "Jobs that ended, by task and state.",
    "hiss_batches_total": "Batches that were worked on, by task.",
    "hiss_batched_jobs_total": "Jobs in these batches, by task.",
    "hiss_sound_seconds_total": "Seconds of sound that were made, by task.",
    "hiss_work_seconds_total": "Seconds of work that took, by task.",
    "hiss_decoder_deaths_total": "Decoding processes that died or were killed.",
    "hiss_open_jobs": "Requests that are received, wait or run.",
    "hiss_queue_limit": "How many of these there may be.",
}


class Metrics:
    """Numbers that only grow, by name and labels."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, dict[str, float]] = defaultdict(dict)

    def add(self, name: str, amount: float = 1, **labels: object) -> None:
        """Adds to a number."""
        own = ",".join(f'{label}="{value}"' for label, value in labels.items())
        self._counts[name][own] = self._counts[name].get(own, 0) + amount

    def text(self, **now: float) -> str:
        """Returns all of them, and those of the moment."""
        lines = []
        for name, explained in _HELP.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {name} {explained}", f"# TYPE {name} {kind}"]
            counts = self._counts[name] if name not in now else {"": now[name]}
            lines += [
                f"{name}{{{labels}}} {value:g}" if labels else f"{name} {value:g}" for labels, value in counts.items()
            ]
        return "\n".join(lines) + "\n"
