"""The two parties."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from . import _lowkey
from ._answers import Answer, Stage
from ._arrays import Array, read
from ._checks import whole
from ._described import Described
from ._errors import Error, InputError
from ._model import Model
from ._progress import Progress

Path = str | os.PathLike[str]


def _path(path: Path | None) -> str | None:
    return None if path is None else os.fspath(path)


class Server:
    """Models that are served in the background, until `close` or the end of a `with`. models: by the names that clients ask for."""

    def __init__(self, inner: _lowkey.Server, models: list[Model]) -> None:
        self._inner = inner
        self.models = dict(zip(self.digests, models, strict=True))

    @property
    def model(self) -> Model:
        """The first of them, or the only one."""
        return next(iter(self.models.values()))

    @property
    def address(self) -> str:
        """host:port, for clients."""
        return self._inner.address or ""

    @property
    def digest(self) -> str:
        """Of what was published, for clients to expect: 64 hexadecimal digits."""
        return self._inner.digest

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each model by its name; `digest` is the first one's."""
        return dict(self._inner.digests)

    @property
    def pin(self) -> str | None:
        """SHA-256 of the certificate, for clients to pin; None without TLS."""
        return self._inner.pin

    def close(self) -> None:
        """Ends it, after the inferences that run."""
        self._inner.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<lowkey.Server of {', '.join(self.models)} at {self.address}>"


def serve(
    model: Model | Mapping[str, Model],
    address: str = "127.0.0.1:0",
    *,
    link: str = "lan",
    state: Path | None = None,
    certificate: tuple[Path, Path] | None = None,
    reveal: str = "logits",
    quota: int | None = None,
    sessions: int | None = None,
    insecure: bool = False,
) -> Server:
    """Publishes a model and serves it in the background; port 0 picks a free one.

    model: one, or several by the names that clients ask for: {"small": a, "large": b}. address: host:port. link: the line to plan for,
    loopback, lan, wan or metered (fewest bytes). state: a folder for the server's key, so that a restart publishes the same bytes; without
    it each server has a key of its own. certificate: PEM files of a chain and its key, for TLS. reveal: "logits", or "class" and nothing
    else. quota: most inferences per client and hour. sessions: most at once, 16 unless given. insecure: plain TCP where other machines can
    connect.

    Raises InputError where an argument, a file or the address does not do, Refused for plain TCP that nobody asked for.
    """
    models = _by_name(model)
    if certificate is not None and (isinstance(certificate, (str, os.PathLike)) or len(certificate) != 2):
        raise InputError(f"certificate={certificate!r}", "give two files: (chain, key)")
    address = _address(address)
    quota = None if quota is None else whole("quota", quota, 1, 2**32 - 1)
    sessions = None if sessions is None else whole("sessions", sessions, 1, 2**16 - 1)
    pair = None if certificate is None else (os.fspath(certificate[0]), os.fspath(certificate[1]))
    inner = _lowkey.Server(
        [(name, model._inner) for name, model in models],
        address,
        link=link,
        state=_path(state),
        certificate=pair,
        reveal_class=_reveals_class(reveal),
        quota=quota,
        sessions=sessions,
        insecure=insecure,
    )
    return Server(inner, [model for _, model in models])


def models(
    address: str,
    *,
    ca: Path | None = None,
    pin: str | None = None,
    timeout: float | None = None,
    insecure: bool = False,
) -> dict[str, str]:
    """The models of the server at `address`, for `Client(address, model=...)`: their names and their digests."""
    return dict(_lowkey.models(_address(address), ca=_path(ca), pin=pin, timeout=timeout, insecure=insecure))


def _by_name(model: Any) -> list[tuple[str | None, Model]]:
    """What is served, by name; without one a model has its own."""
    if isinstance(model, Model):
        return [(None, model)]
    if isinstance(model, Mapping) and model:
        named = list(model.items())
        for name, value in named:
            if not isinstance(name, str) or not isinstance(value, Model):
                hint = 'names and lowkey.Models: {"small": a, "large": b}'
                raise InputError(f"{name!r}: a {type(value).__name__} to serve", hint)
        return named
    hint = "give a lowkey.Model: of lowkey.load, lowkey.quantise or lowkey.train.fit"
    if isinstance(getattr(model, "model", None), Model):
        hint = "give its model: lowkey.serve(classifier.model)"
    elif isinstance(model, Mapping):
        hint = "give one model or more by name"
    raise InputError(f"{'an empty' if isinstance(model, Mapping) else 'a'} {type(model).__name__} to serve", hint)


def _address(address: Any) -> str:
    if not isinstance(address, str):
        hint = "give its address: server.address" if isinstance(address, Server) else "give text: '127.0.0.1:7117'"
        raise InputError(f"a {type(address).__name__} for an address", hint)
    return address


def _reveals_class(reveal: str) -> bool:
    if reveal not in ("logits", "class"):
        raise InputError(f"reveal={reveal!r}", "give 'logits' or 'class'")
    return reveal == "class"


class Client(Described):
    """A session with a server, which learns nothing of what it is asked. Threads take turns.

    model: its name, at a server of several. digest: of the model to accept, and no other. ca, pin: how the server's certificate is
    recognised, an authority's PEM file or the certificate's SHA-256 (64 hexadecimal digits). prepare: so many answers, 64 at most, are kept
    prepared in the background, so that `infer` waits for the online stage alone. state: a folder that remembers published models and the
    digest first seen at each address. reveal: "logits", or "class" alone. timeout: seconds without progress until it gives up, 60 unless
    given. insecure: plain TCP to another machine.

    Raises PeerError where there is no server or none of this version, Refused for another digest or certificate than the expected one,
    plain TCP that nobody asked for, and what the server's policy forbids.
    """

    _inner: _lowkey.Client

    def __init__(
        self,
        address: str,
        *,
        model: str | None = None,
        digest: str | None = None,
        ca: Path | None = None,
        pin: str | None = None,
        prepare: int = 0,
        state: Path | None = None,
        reveal: str = "logits",
        timeout: float | None = None,
        insecure: bool = False,
    ) -> None:
        whole("prepare", prepare, 0, 64)
        self._inner = _lowkey.Client(
            _address(address),
            model=model,
            digest=digest,
            ca=_path(ca),
            pin=pin,
            state=_path(state),
            reveal_class=_reveals_class(reveal),
            timeout=timeout,
            insecure=insecure,
        )
        self._keep = prepare
        self._turn = threading.Lock()
        """Held by the thread that has an answer made."""
        self._failure: Error | None = None
        self._filling: threading.Thread | None = None
        self._awaited = False
        """Someone waits for the line: what is filled stops at the next slot."""
        if prepare:
            try:
                self._inner.prepare(prepare)
            except BaseException:
                self._inner.close()
                raise

    @property
    def model(self) -> str:
        """The name of the server's model."""
        return self._inner.name

    @property
    def digest(self) -> str:
        """Of what the server published: 64 hexadecimal digits."""
        return self._inner.digest

    @property
    def not_kept(self) -> list[str]:
        """Why files of the state folder could not be written; answers do without them."""
        return self._inner.not_kept

    @property
    def setup(self) -> Stage:
        """What opening the session took."""
        return Stage(*self._inner.setup)

    @property
    def ready(self) -> int:
        """Answers that are prepared."""
        return self._inner.ready

    def prepare(self, count: int = 1) -> None:
        """Does what does not depend on inputs, until `count` answers are prepared."""
        whole("count", count, 0)
        with self._turn:
            self._settle()
            self._inner.prepare(count)

    def infer(self, x: Any, *, pixels: bool = False) -> Answer:
        """Answers one input privately: a numpy array or a torch tensor of shape `input_shape`, or a PIL image.

        Raises InputError for what the network does not read, PeerError when the line is lost: then the session is over.
        """
        [values], kind = read(x, self._inner, pixels=pixels)
        return self._answer(values.tobytes(), kind, self._keep)

    def infer_each(self, x: Any, *, pixels: bool = False) -> Iterator[Answer]:
        """Answers a batch, [n, *input_shape] or PIL images, privately, one after the other, each when it is asked for. While its caller
        looks at an answer, the next one is prepared in the background: one, or as many as `prepare` says. Raises as `infer`, at once
        for what the network does not read."""
        inputs, kind = read(x, self._inner, pixels=pixels, batch=True)
        return (self._answer(one.tobytes(), kind, keep) for one, keep in self._kept(inputs))

    def infer_many(self, x: Any, *, pixels: bool = False, progress: bool | None = None) -> list[Answer]:
        """Answers a batch, [n, *input_shape] or PIL images, privately, one after the other, each with a slot that was prepared behind the
        one before: a session does one thing at a time, so a batch takes the time of both stages of each. progress: a bar on standard error
        or in a notebook; None: where there is a terminal or a notebook. Raises as `infer`."""
        inputs, kind = read(x, self._inner, pixels=pixels, batch=True)
        answers: list[Answer] = []
        with Progress(len(inputs), progress) as bar:
            for one, keep in self._kept(inputs):
                # Nobody looks at an answer before the last one is there, and a thread takes time: no background until then.
                answers.append(self._answer(one.tobytes(), kind, keep, wait=len(answers) + 1 < len(inputs)))
                bar.step()
        return answers

    def _kept(self, inputs: list[Array]) -> Iterator[tuple[Array, int]]:
        """Each input, and how many slots are wanted behind its answer: no more than will be used, until the last one is answered, so
        that slots at hand go first."""
        for remaining, one in zip(reversed(range(len(inputs))), inputs):
            yield one, min(remaining, max(self._keep, 1)) or self._keep

    def _answer(self, values: bytes, kind: str, keep: int, wait: bool = False) -> Answer:
        """An answer, behind which slots are prepared until there are `keep`: in the background, or before it is given."""
        with self._turn:
            self._settle()
            found = self._inner.infer(values, kind)
            if wait:
                self._inner.prepare(keep)
            elif self._inner.ready < keep:
                self._filling = threading.Thread(target=self._fill, args=(keep,), name="lowkey-prepare")
                self._filling.start()
        return Answer(found)

    def _fill(self, keep: int) -> None:
        try:
            while (ready := self._inner.ready) < keep:
                self._inner.prepare(ready + 1)
                # An input waits for one of them, not for all; nor does a program that ends.
                if self._awaited or not threading.main_thread().is_alive():
                    break
        except Error as error:
            self._failure = error

    def _settle(self) -> None:
        """Has the background stop, and tells how it failed. For who has the turn."""
        if self._filling is not None:
            self._awaited = True
            self._filling.join()
            self._filling, self._awaited = None, False
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def close(self) -> None:
        """Ends the session; what is prepared is burned."""
        with self._turn:
            try:
                self._settle()
            except Error:
                # Nobody asks for more answers.
                pass
            self._inner.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<lowkey.Client of {self.model}: {self.input} -> {self.output}>"
