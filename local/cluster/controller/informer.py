"""A copy of one collection of the API, kept up to date by a watch, so that a change is known within milliseconds."""

import threading

from local.cluster.api import Api, ApiError, Gone
from local.cluster.controller.loop import Streak
from local.cluster.objects import Json, name

Key = tuple[str, str]


class Informer:
    """Objects by namespace and name. `changed` is set whenever one of them changes."""

    def __init__(self, api: Api, path: str, changed: threading.Event, stop: threading.Event) -> None:
        self._api = api
        self._path = path
        self._changed = changed
        self._stop = stop
        self._lock = threading.Lock()
        self._objects: dict[Key, Json] = {}
        self._synced = threading.Event()

    def start(self) -> None:
        """Starts to follow the collection, in a thread."""
        threading.Thread(target=self._run, name=f"watch {self._path}", daemon=True).start()

    @property
    def is_synced(self) -> bool:
        """Whether the collection has been listed; until then nothing is known of what it lacks."""
        return self._synced.is_set()

    def objects(self) -> list[Json]:
        """The objects as they are now."""
        with self._lock:
            return list(self._objects.values())

    def get(self, namespace: str, name: str) -> Json | None:
        """One object, or None."""
        with self._lock:
            return self._objects.get((namespace, name))

    def _run(self) -> None:
        streak = Streak(f"watch {self._path}")
        while not self._stop.is_set():
            try:
                version = self._list()
                streak.succeeded()
                self._follow(version)
            except Gone:
                continue
            except ApiError as error:
                # 404: the resource's definition is not there yet, so there is nothing of it
                if error.status != 404:
                    streak.failed(error)
                self._stop.wait(1)

    def _list(self) -> str:
        answer = self._api.get(self._path)
        with self._lock:
            self._objects = {_key(item): item for item in answer["items"]}
        self._synced.set()
        self._changed.set()
        return answer["metadata"]["resourceVersion"]

    def _follow(self, version: str) -> None:
        while not self._stop.is_set():
            for event in self._api.watch(self._path, version):
                item: Json = event["object"]
                version = item["metadata"]["resourceVersion"]
                with self._lock:
                    if event["type"] == "DELETED":
                        self._objects.pop(_key(item), None)
                    else:
                        self._objects[_key(item)] = item
                self._changed.set()


def _key(item: Json) -> Key:
    return item["metadata"].get("namespace", ""), name(item)
