"""Building and scanning on a Ray cluster: actors read, describe and check; the caller alone writes, in order.

Actors with a bounded window, not `ray.data`: the index has to be the one that a single process makes, so results are
taken in the sources' order; and a picture that kills workers has to be found and named, where Ray Data would repeat or
drop its whole block. An actor reads a file from its own path where it sees the same file as the caller (size and time
of change); the caller sends the bytes of the others.

Longer than 400 lines because both kinds of work share one way to hand it out.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from detector import __version__
from detector.detector import Detector, unreadable
from detector.metadata import GenerationLists, filled_from
from detector.processes import Opening
from detector.report import ImageReport
from detector.scan import Checker, ScanOptions, ScanProgress, ScanReport, check_all, prepare_here
from detector.scan import scan as scan_with
from index import build as building
from index.build import BuildOptions, BuildReport, ProgressCallback
from index.descriptors import BatchedDescriptor, DescriptorSpec, create
from index.errors import DescriptorError, DetectorError, UnreadableImageError, UsageError
from index.images import read_bytes
from index.items import Rejected, SourceItem, locator_of
from index.workers import Described, Describer, describe_all, describe_batch
from index.workers import prepare as prepare_describer

LOCAL = "local"
"""The address that starts a cluster of this machine's cores, for as long as the work takes."""

WORKER_DIED = "worker_died"
"""Reason of a picture that was given up because the workers that had it, and it alone, died."""

MAX_DEATHS = 2
"""Workers that one picture, alone in their hands, may take down before it is given up."""

CONNECT_S = 5.0
"""How long an address may take to accept a connection."""

START_S = 120.0
"""How long the cluster may take to give the first worker."""

OBJECT_STORE_BYTES = 256 * 2**20
"""Shared memory of a cluster started here: chunks in flight are a few megabytes."""


def build_index(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    address: str = LOCAL,
    descriptors: Sequence[str] | None = None,
    options: BuildOptions | None = None,
    on_progress: ProgressCallback | None = None,
) -> BuildReport:
    """Index training images with the workers of a Ray cluster; the index is the one that `build_index` makes.

    Args:
        sources: As for `index.build.build_index`.
        out: The index, written by the caller alone.
        address: ``auto``, ``HOST:PORT``, ``ray://HOST:PORT``, or ``local`` for a cluster on this machine. Where Ray is
            connected already, that cluster is taken.
        descriptors: As for `index.build.build_index`.
        options: Likewise; `workers` counts actors, 0 takes one a processor core of the cluster, or one a GPU with
            the device ``cuda``.
        on_progress: Likewise.

    Returns:
        What was done.

    Raises:
        UsageError: Ray is missing, the cluster cannot be reached, or it cannot give a worker.
        DetectorError: As `index.build.build_index`.
    """
    chosen = options or BuildOptions()
    with _connected(address, chosen.workers) as cluster:
        count, resources = cluster.share(chosen.workers, chosen.device)

        def start(workers: int, describer: Describer) -> Executor:
            return _Crew(workers, resources, _Describing.of(describer, chosen.device))

        # Models run in the actors; what the caller describes itself, which is rare, needs no GPU.
        here = replace(chosen, workers=count, device="cpu")
        return building.build_index(
            sources, out, descriptors=descriptors, options=here, on_progress=on_progress, start_workers=start
        )


def scan(
    detector: Detector,
    paths: str | Path | Sequence[str | Path],
    *,
    address: str = LOCAL,
    device: str | None = None,
    jsonl: str | Path | None = None,
    options: ScanOptions | None = None,
    on_progress: ScanProgress | None = None,
) -> ScanReport:
    """Check folders of pictures with the workers of a Ray cluster; findings and their order as of `Detector.scan`.

    Args:
        detector: Its index must lie where the workers can open it under the same path.
        paths: As for `Detector.scan`.
        address: As for `build_index`.
        device: Where neural descriptors run in the workers; None takes the CPU.
        jsonl: As for `Detector.scan`.
        options: Likewise; `workers` counts actors.
        on_progress: Likewise.

    Raises:
        UsageError: Ray is missing, the cluster cannot be reached, or its workers cannot open the index.
        DetectorError: As `Detector.scan`.
    """
    chosen = options or ScanOptions()
    with _connected(address, chosen.workers) as cluster:
        count, resources = cluster.share(chosen.workers, device)

        def start(workers: int, checker: Checker) -> Executor:
            return _Crew(workers, resources, _Checking.of(checker, device))

        here = replace(chosen, workers=count)
        return scan_with(
            detector, paths, jsonl=jsonl, options=here, on_progress=on_progress, start_workers=start
        )


# The cluster


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What a cluster has to give."""

    address: str
    cpus: int
    gpus: float

    def share(self, wanted: int, device: str | None) -> tuple[int, dict[str, float]]:
        """Return how many actors to start, and what each takes.

        Args:
            wanted: Actors; 0 chooses.
            device: With ``cuda``, each takes a share of a GPU.
        """
        on_gpu = device is not None and device.startswith("cuda")
        if self.cpus < 1:
            raise UsageError(
                f"--ray {self.address}: the cluster has no processor core to give. Start a node with: "
                "ray start --address HOST:PORT --num-cpus N"
            )
        if on_gpu and not self.gpus:
            raise UsageError(f"--device {device}: the cluster {self.address} has no GPU. Leave --device out")
        count = min(wanted or (int(self.gpus) if on_gpu else self.cpus) or 1, self.cpus)
        return count, {"num_cpus": 1, "num_gpus": min(1.0, self.gpus / count) if on_gpu else 0}


@contextlib.contextmanager
def _connected(address: str, workers: int) -> Iterator[_Cluster]:
    """Connect to a cluster, or start one here; what was started here leaves nothing behind."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing leaves the machine unless asked
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            f'--ray {address}: needs Ray. Run: pip install "replication-detector[ray]"'
        ) from error
    if ray.is_initialized():
        yield _resources(address)
        return
    with contextlib.ExitStack() as stack:
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if address == LOCAL:
            settings |= {
                "num_cpus": workers or os.cpu_count() or 1,
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
            }
            if sys.platform == "linux":  # elsewhere temporary folders have names too long for Ray's sockets
                folder = tempfile.mkdtemp(prefix="detector-ray-", dir="/tmp")
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                settings["_temp_dir"] = folder
        else:
            _must_answer(address)
        try:
            stack.callback(ray.shutdown)
            ray.init(address, **settings)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise UsageError(
                f"--ray {address}: no Ray cluster could be used there ({said[0]}). Start one with: ray start --head; "
                "or leave the address to --ray local"
            ) from error
        with _silent(ray):
            yield _resources(address)


def _resources(address: str) -> _Cluster:
    import ray

    found = ray.cluster_resources()
    return _Cluster(address, int(found.get("CPU", 0)), float(found.get("GPU", 0)))


def _must_answer(address: str) -> None:
    """Refuse an address at which nothing listens; Ray itself would try for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit():
        raise UsageError(f"--ray {address}: is no address. Give local, auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--ray {address}: nothing answers there ({error}). Start a cluster with: ray start --head --port {port}"
        ) from error


@contextlib.contextmanager
def _silent(ray: Any) -> Iterator[None]:
    """Keep Ray from printing to stdout that a worker died: stdout is for results, and deaths are dealt with here."""
    module = getattr(getattr(ray, "_private", None), "worker", None)
    before = getattr(module, "print_to_stdstream", None)
    if before is None:
        yield
        return
    module.print_to_stdstream = lambda *_, **__: None  # type: ignore[union-attr]
    try:
        yield
    finally:
        module.print_to_stdstream = before  # type: ignore[union-attr]


# What runs in an actor


@dataclass(frozen=True, slots=True)
class _Parcel:
    """An item on its way to a worker.

    Attributes:
        path: The file that holds its bytes; None where none is needed.
        size: Of that file; -1 when it does not count.
        mtime_ns: When it was last changed, as the caller sees it; 0 when it does not count.
        data: The bytes, where the worker does not see the file.
    """

    item: Any
    path: Path | None
    size: int = -1
    mtime_ns: int = 0
    data: bytes | None = None

    def is_here(self) -> bool:
        """Say whether this process sees the same file as the caller."""
        if self.data is not None or self.path is None:
            return True
        try:
            found = os.stat(self.path)
        except (OSError, ValueError):
            return False
        same_size = self.size < 0 or found.st_size == self.size
        return same_size and self.mtime_ns in (0, found.st_mtime_ns)


class _Work(Protocol):
    """A kind of work: sent to each actor once; `pack`, `finish` and `refuse` run in the caller."""

    @property
    def folder(self) -> str:
        """The caller's working folder."""

    @property
    def version(self) -> str:
        """The caller's version of this package."""

    def prepare(self) -> None:
        """Load what the work needs."""

    def run(self, parcels: list[_Parcel]) -> list[Any]:
        """Return a result for each parcel."""

    def pack(self, item: Any) -> _Parcel:
        """Return an item as it is sent at first."""

    def read(self, item: Any) -> bytes:
        """Return its bytes."""

    def finish(self, parcel: _Parcel, result: Any) -> Any:
        """Return a result as the caller would have it from a worker of its own."""

    def refuse(self, item: Any, error: UnreadableImageError) -> Any:
        """Return the result of an item that cannot be read."""

    def for_actors(self) -> _Work:
        """Return what of this is sent."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """A `DetectorError` in an actor, in words."""

    message: str


class _Hand:
    """What runs in an actor."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    def prepare(self) -> _Failed | None:
        """Load what the work needs; say what is in the way."""
        if self._work.version != __version__:
            return _Failed(
                f"has replication-detector {__version__}, not {self._work.version}. Install the same version everywhere"
            )
        with contextlib.suppress(OSError):  # relative paths mean what they mean to the caller, where they can
            os.chdir(self._work.folder)
        try:
            self._work.prepare()
        except DetectorError as error:
            return _Failed(str(error))
        return None

    def run(self, parcels: list[_Parcel]) -> list[Any] | _Failed:
        """Return a result for each parcel, None for those whose file is not seen from here."""
        seen = [parcel for parcel in parcels if parcel.is_here()]
        try:
            results = iter(self._work.run(seen) if seen else [])
        except DetectorError as error:
            return _Failed(str(error))
        here = {id(parcel) for parcel in seen}
        return [next(results) if id(parcel) in here else None for parcel in parcels]


@dataclass(frozen=True, slots=True)
class _Describing:
    """Building: items are described."""

    folder: str
    version: str
    device: str
    specs: tuple[DescriptorSpec, ...]
    describer: Describer

    @classmethod
    def of(cls, describer: Describer, device: str | None) -> _Describing:
        """Take over a describer, but for its models."""
        specs = tuple(d.spec for d in (*describer.descriptors.values(), *describer.batched.values()))
        return cls(os.getcwd(), __version__, _device_there(device), specs, describer)

    def for_actors(self) -> _Work:
        return replace(self, describer=replace(self.describer, descriptors={}, batched={}))

    def prepare(self) -> None:
        for spec in self.specs:
            descriptor = create(spec.name, device=self.device)
            if descriptor.spec != spec:
                raise DescriptorError(
                    spec.name,
                    "gives other rows here than in the caller. Install the same versions, and the same weights",
                )
            if isinstance(descriptor, BatchedDescriptor):
                self.describer.batched[spec.name] = descriptor
            else:
                self.describer.descriptors[spec.name] = descriptor
        prepare_describer(self.describer)

    def run(self, parcels: list[_Parcel]) -> list[Described]:
        results = describe_all([p.item if p.data is None else replace(p.item, data=p.data) for p in parcels])
        for name, model in self.describer.batched.items():
            describe_batch(
                name, model, results
            )  # on a GPU too: the actor has its share of one, the caller none
        for result in results:
            result.item = replace(result.item, data=None)
        return results

    def pack(self, item: SourceItem) -> _Parcel:
        if item.data is not None:
            return _Parcel(item, None)
        return _Parcel(item, item.path, item.size if item.offset < 0 else -1, item.mtime_ns)

    def read(self, item: SourceItem) -> bytes:
        return item.read()

    def finish(self, parcel: _Parcel, result: Described) -> Described:
        result.item = parcel.item
        return result

    def refuse(self, item: SourceItem, error: UnreadableImageError) -> Described:
        return Described(item, error=error)


@dataclass(frozen=True, slots=True)
class _Checking:
    """Scanning: pictures are checked against an index that every actor opens."""

    folder: str
    version: str
    opening: Opening
    lists: GenerationLists | None = None
    within: tuple[Path, ...] = ()

    @classmethod
    def of(cls, checker: Checker, device: str | None) -> _Checking:
        """Take over a checker, but for its open index."""
        opening = Opening.of(checker.detector, _device_there(device))
        return cls(os.getcwd(), __version__, opening, checker.lists, checker.within)

    def for_actors(self) -> _Work:
        return replace(self, lists=None)

    def prepare(self) -> None:
        prepare_here(Checker(self.opening.open(), GenerationLists(self.within), self.within))

    def run(self, parcels: list[_Parcel]) -> list[ImageReport]:
        return check_all([p.item if p.data is None else (locator_of(p.item), p.data) for p in parcels])

    def pack(self, item: Path | Rejected) -> _Parcel:
        if isinstance(item, Rejected):
            return _Parcel(item, None)
        try:
            found = os.stat(item)
        except (OSError, ValueError):
            return _Parcel(item, item)
        return _Parcel(item, item, found.st_size, found.st_mtime_ns)

    def read(self, item: Path) -> bytes:
        return read_bytes(item)

    def finish(self, parcel: _Parcel, result: ImageReport) -> ImageReport:
        if parcel.data is None or self.lists is None:
            return result
        return replace(result, generation=filled_from(result.generation, self.lists.about(parcel.item)))

    def refuse(self, item: Path | Rejected, error: UnreadableImageError) -> ImageReport:
        return unreadable(item.locator if isinstance(item, Rejected) else locator_of(item), error.reason)


def _device_there(device: str | None) -> str:
    """Return where models run in an actor, which sees no GPU but its own share."""
    if device is None:
        return "cpu"
    return "cuda" if device.startswith("cuda") else device


# The caller's side


@dataclass(slots=True)
class _Job:
    """A chunk of items: what is known of it, and what has gone wrong."""

    items: list[Any]
    future: Future[list[Any]] = field(default_factory=Future)
    done: list[Any] = field(default_factory=list)
    alone: bool = False
    deaths: int = 0


class _Crew(Executor):
    """Actors as an executor: `submit` takes one list of items, whatever the function, and gives a list as long.

    A thread here goes with each actor, and takes chunks only while that actor lives: chunks of a dead one go to
    the others, and a cluster that shrinks slows the work down instead of stopping it.
    """

    def __init__(self, count: int, resources: dict[str, float], work: _Work) -> None:
        import ray

        self._ray = ray
        self._work = work
        self._actor = ray.remote(_Hand).options(**resources, max_restarts=0)
        self._sent = ray.put(work.for_actors())
        self._numbers = itertools.count()
        self._jobs: queue.PriorityQueue[tuple[int, _Job]] = queue.PriorityQueue()
        self._closing = threading.Event()
        self._hired = threading.Event()
        self._failed: DetectorError | None = None
        names = [f"ray-{number}" for number in range(count)]
        self._threads = [threading.Thread(target=self._serve, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()
        try:
            if not self._hired.wait(START_S):
                raise UsageError(
                    f"the Ray cluster gave no worker within {START_S:.0f} seconds: others have its cores and GPUs. "
                    "See: ray status"
                )
            if self._failed is not None:
                raise self._failed
        except BaseException:
            self.shutdown()
            raise

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue one list of items; the actors know what to do with it."""
        job = _Job(list(args[0]))
        self._jobs.put((next(self._numbers), job))
        if self._failed is not None:
            self._fail_queued()
        return job.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the actors go; what they have in hand is finished first where `wait` is true."""
        if cancel_futures:
            self._fail_queued()
        self._closing.set()
        if wait:
            for thread in self._threads:
                thread.join()

    def _serve(self) -> None:
        """Hire an actor, feed it, and hire another when it dies."""
        while not self._closing.is_set():
            actor = None
            try:
                actor = self._hire()
                while actor is not None and self._feed(actor):
                    pass
            except DetectorError as error:
                self._fail(error)
            finally:
                if actor is not None:
                    with contextlib.suppress(Exception):  # it is dead already, or the cluster is gone
                        self._ray.kill(actor)
            if self._failed is not None:
                return

    def _hire(self) -> Any:
        """Return an actor that is ready, or None when there is no more use for one or it died at once."""
        errors = self._ray.exceptions
        actor = self._actor.remote(self._sent)
        asked = actor.prepare.remote()
        try:
            while not self._ray.wait([asked], timeout=0.2)[0]:
                if self._closing.is_set():
                    self._ray.kill(actor)
                    return None
            failed = self._ray.get(asked)
        except errors.RayTaskError as error:
            raise UsageError(
                f"a Ray worker could not start: {_last_line(error)}. Install the same replication-detector everywhere"
            ) from error
        except errors.RayError as error:
            if "ModuleNotFoundError" in str(error) or "ImportError" in str(error):
                raise UsageError(
                    f"a Ray worker could not start: {_last_line(error)}. Install replication-detector on every node"
                ) from error
            self._closing.wait(1.0)
            return None
        if failed is not None:
            raise UsageError(f"a Ray worker cannot do this: {failed.message}")
        self._hired.set()
        return actor

    def _feed(self, actor: Any) -> bool:
        """Hand over the next chunk; return False when the actor is of no more use."""
        try:
            number, job = self._jobs.get(timeout=0.1)
        except queue.Empty:
            return not self._closing.is_set()
        if not job.future.running() and not job.future.set_running_or_notify_cancel():
            return True
        errors = self._ray.exceptions
        try:
            while len(job.done) < len(job.items):
                rest = job.items[len(job.done) :]
                job.done += self._ask(actor, rest[:1] if job.alone else rest)
                job.deaths = 0
            job.future.set_result(job.done)
        except errors.RayTaskError as error:
            job.future.set_exception(error)
        except errors.RayError:
            self._note_death(job)
            self._jobs.put((number, job))
            return False
        except Exception as error:
            job.future.set_exception(error)
        return True

    def _ask(self, actor: Any, items: list[Any]) -> list[Any]:
        """Return the results of some items, sending the bytes of those that the actor does not see."""
        parcels = [self._work.pack(item) for item in items]
        results = self._got(actor.run.remote(parcels))
        unseen = [place for place, result in enumerate(results) if result is None]
        sent: list[int] = []
        for place in unseen:
            try:
                parcels[place] = replace(parcels[place], data=self._work.read(items[place]))
                sent.append(place)
            except UnreadableImageError as error:
                results[place] = self._work.refuse(items[place], error)
        if sent:
            late = self._got(actor.run.remote([parcels[place] for place in sent]))
            for place, result in zip(sent, late, strict=True):
                results[place] = result
        refused = set(unseen) - set(sent)
        return [
            result if place in refused else self._work.finish(parcels[place], result)
            for place, result in enumerate(results)
        ]

    def _got(self, reference: Any) -> list[Any]:
        results: list[Any] | _Failed = self._ray.get(reference)
        if isinstance(results, _Failed):
            raise DetectorError(f"a Ray worker: {results.message}")
        return results

    def _note_death(self, job: _Job) -> None:
        """Have the items of a chunk that went down tried one by one; give up the one that keeps killing workers."""
        if not job.alone and len(job.items) > 1:
            job.alone = True
            return
        job.alone = True
        job.deaths += 1
        if job.deaths >= MAX_DEATHS:
            item = job.items[len(job.done)]
            named = item.as_posix() if isinstance(item, Path) else item.locator
            error = UnreadableImageError(named, WORKER_DIED, f"{job.deaths} workers died of it")
            job.done.append(self._work.refuse(item, error))
            job.deaths = 0

    def _fail(self, error: DetectorError) -> None:
        """Stop: no worker can do the work."""
        self._failed = self._failed or error
        self._hired.set()
        self._fail_queued()

    def _fail_queued(self) -> None:
        while True:
            try:
                _, job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if self._failed is None:
                job.future.cancel()
            elif not job.future.done():
                job.future.set_exception(self._failed)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
