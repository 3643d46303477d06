"""What the server counts, as Prometheus reads it; no name, address or file name is among it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PICTURES = (1, 2, 4, 8, 16, 32)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        """Make them, at zero."""
        self.registry = made = CollectorRegistry()
        labels = ("route", "method", "status")
        self._requests = Counter("detector_requests", "Requests answered", labels, registry=made)
        self._seconds = Histogram(
            "detector_request_seconds", "Time to answer a request", ("route",), buckets=SECONDS, registry=made
        )
        self._pictures = Counter("detector_pictures", "Pictures checked", ("verdict",), registry=made)
        self._batch = Histogram(
            "detector_batch_pictures", "Pictures checked as one batch", buckets=PICTURES, registry=made
        )
        self._batch_s = Histogram(
            "detector_batch_seconds", "Time to check a batch", buckets=SECONDS, registry=made
        )
        self._pending = Gauge("detector_pending_pictures", "Pictures waiting or at work", registry=made)
        self._lost = Counter("detector_decoders_lost", "Decoders that died or were stopped", registry=made)
        self._generation = Gauge("detector_index_generation", "Generation that is served", registry=made)
        self._references = Gauge("detector_index_references", "References in it", registry=made)
        self._failing = Gauge(
            "detector_index_reload_failing", "1 while a newer generation cannot be opened", registry=made
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request, by the pattern of its path."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def checked(self, verdict: str) -> None:
        """Count a picture."""
        self._pictures.labels(verdict).inc()

    def batch_done(self, pictures: int, seconds: float) -> None:
        """Count a batch."""
        self._batch.observe(pictures)
        self._batch_s.observe(seconds)

    def pending(self, pictures: int) -> None:
        """Say how many pictures wait or are at work."""
        self._pending.set(pictures)

    def decoder_lost(self) -> None:
        """Count a decoder that died or had to be stopped."""
        self._lost.inc()

    def serving(self, generation: int, references: int) -> None:
        """Say what is served."""
        self._generation.set(generation)
        self._references.set(references)

    def reload_failing(self, failing: bool) -> None:
        """Say whether a newer generation cannot be opened."""
        self._failing.set(failing)

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry)
