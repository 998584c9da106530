"""Workers as actors of a Ray cluster: named, so that front ends share them, and started anew where they die."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import streamtrans
from streamtrans.cluster.seat import Gone, Remote
from streamtrans.cluster.worker import Offer, Worker
from streamtrans.core import BadConfig, EngineClosed, Job, StateHandle, needs
from streamtrans.runtime import ModelChoice

NAMESPACE = "streamtrans"
"""Of the actors' names in the cluster."""


def hire(
    address: str, choice: ModelChoice, *, workers: int, slots: int, gpus: float = 0.0, cpus: float = 1.0
) -> tuple[list[Remote], Offer]:
    """Return ``workers`` workers that serve ``choice``, and what they offer; those that aren't there are started.

    Args:
        address: ``HOST:PORT`` of the cluster's head; this machine must be one of its nodes.
        choice: the model. Its folder, where it is one, must lie at the same place on every node.
        workers: one per device.
        slots: texts that each decodes at once.
        gpus: of one worker.
        cpus: of one worker.

    Raises:
        BadConfig: there is no cluster, or this machine is none of its nodes, or ray isn't installed.
        BadModel: the model can't be loaded there.
    """
    try:
        import ray
    except ImportError as error:
        raise BadConfig(needs("the engine on Ray", "ray", "ray")) from error
    try:
        ray.init(address, namespace=NAMESPACE, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BadConfig(f"{address} is no Ray cluster that this machine is a node of: {error}") from error
    what = f"{choice} {slots} {streamtrans.__version__}".encode()
    name = hashlib.sha256(what).hexdigest()[:12]
    kind = ray.remote(Worker)
    actors = [
        kind.options(
            name=f"{name}-{number}",
            lifetime="detached",  # front ends come and go
            get_if_exists=True,
            max_restarts=-1,
            max_concurrency=1_000,
            num_cpus=cpus,
            num_gpus=gpus,
        ).remote(choice, slots)
        for number in range(workers)
    ]
    try:
        offer: Offer = ray.get(actors[0].offer.remote())
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayActorError as error:
        cause = getattr(error, "cause", None)
        raise BadConfig(f"no worker could be started: {cause or error}") from error
    return [Actor(actor) for actor in actors], offer


def dismiss() -> None:
    """Leave the cluster; its workers go on."""
    import ray

    ray.shutdown()


class Actor:
    """One worker; what comes of a call is its result, its own error, or :class:`Gone`."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def read(self, job: Job) -> tuple[Future[Any], Callable[[], None]]:
        """Let it read ``job``."""
        import ray

        reference = self._actor.read.remote(job)
        return _plain(reference.future()), lambda: ray.cancel(reference)

    def pulse(self) -> Future[Any]:
        """Ask whether it lives."""
        return _plain(self._actor.pulse.remote().future())

    def release(self, state: StateHandle) -> None:
        """Let it forget ``state``."""
        self._actor.release.remote(state)


def _plain(told: Future[Any]) -> Future[Any]:
    """Return a future whose errors are ours."""
    plain: Future[Any] = Future()

    def hand_over(future: Future[Any]) -> None:
        from ray.exceptions import RayError, RayTaskError

        error = future.exception()
        if isinstance(error, RayTaskError) and not isinstance(error.cause, EngineClosed):
            error = error.cause  # what the engine there said
        elif isinstance(error, RayError):
            error = Gone()
        if error is None:
            plain.set_result(future.result())
        else:
            plain.set_exception(error)

    told.add_done_callback(hand_over)
    return plain
