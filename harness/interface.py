"""What a memory method and a task must provide. Nothing here imports torch at run time.

An episode is one context and the questions asked about it. The runner writes the context's chunks once, takes
a snapshot of the memory, and answers every question from that snapshot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.overhead import ModelShape
    from torch import Tensor

Status = Literal["ok", "failed", "oom", "timeout", "skipped"]


@dataclass(frozen=True)
class Chunk:
    """One message of a context: the smallest piece a task hands over (a line, a turn, a sentence).

    The texts of an episode's chunks, joined without a separator, are the context exactly.
    """

    text: str
    index: int
    role: str = "user"
    session: str | None = None


@dataclass(frozen=True)
class Query:
    """One question, already formatted by its task.

    targets: acceptable answers. max_new_tokens: decoding budget in tokens. stop: strings that end the answer.
    metadata may hold `evidence` (list[str]: passages that must be visible to answer), `chance` (float:
    accuracy of a uniform guess over the answer space) and `selection` (float: accuracy of a uniform guess
    among the context's values of the right kind). With `choices` (list[str]: continuations of the prompt,
    white space before them included) nothing is generated: the answer is the one that is likeliest after the
    prompt. Where prompts differ between choices, `choice_requests` ([prompt, continuation] of each) says
    what is measured, and `choices` only what the answers are called.
    """

    id: str
    prompt: str
    targets: tuple[str, ...]
    max_new_tokens: int = 16
    stop: tuple[str, ...] = ("\n",)
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Episode:
    """One context, in order, and its questions. Ids of episodes and of queries are unique within a seed."""

    id: str
    source: str
    category: str
    chunks: tuple[Chunk, ...]
    queries: tuple[Query, ...]

    @property
    def context(self) -> str:
        """The whole context as text."""
        return "".join(chunk.text for chunk in self.chunks)


@dataclass(frozen=True)
class Answer:
    """A method's answer to one query.

    prompt_tokens, new_tokens: lengths in backbone tokens. visible: the context text that stood in the prompt,
    None when the method put none there. prompt_hash: SHA-256 (16 hex digits) of the prompt's token ids.
    choices: of each of a query's `choices` the natural log-probability after the prompt, and whether greedy
    decoding gives it; the runner fills it in.
    """

    text: str
    prompt_tokens: int
    new_tokens: int
    status: Status = "ok"
    error: str | None = None
    visible: str | None = None
    prompt_hash: str = ""
    context_tokens: int = 0
    choices: tuple[tuple[float, bool], ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """The memory of one context. `tensors` go to safetensors, `meta` to JSON; both survive a process."""

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class Footprint:
    """Bytes held for one context, by kind. Weights count only where a method stores some per context."""

    text: int = 0
    index: int = 0
    state: int = 0
    kv: int = 0
    weights: int = 0

    @property
    def total(self) -> int:
        """All kinds together, in bytes."""
        return self.text + self.index + self.state + self.kv + self.weights


@dataclass(frozen=True)
class Overhead:
    """Parameters added to the backbone: `trainable` are learnt, `stored` are kept on disk and in memory.

    A model that stands apart, such as a classifier or an embedder, is not counted.
    """

    trainable: int
    stored: int


@dataclass(frozen=True)
class MethodSettings:
    """What the runner tells a method when it makes one.

    window: context tokens that may stand in the prompt; None means as many as the backbone's positions allow.
    adapter: folder of trained weights, None for the embedded default or for methods that need none.
    options: the method's own settings; unknown names are refused.
    """

    window: int | None
    seed: int = 0
    adapter: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class MemoryMethod(ABC):
    """A memory behind one interface. One object serves many contexts, one after the other.

    summary: one line for `deltamem-eval list`. trained: whether the method needs an adapter.
    defaults: the method's options with their default values; they are part of a cell's identity.
    always_on: whether trained parts change answers even when no context was written.
    least_window: the smallest window above 0 that the method can use, in tokens. writes_through: whether
    writing runs the context through the backbone. prompt_each: whether every question has a prompt of its
    own, which shares no prefix with the others'.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    trained: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]] = {}
    always_on: ClassVar[bool] = False
    least_window: ClassVar[int] = 1
    writes_through: ClassVar[bool] = False
    prompt_each: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, backbone: Backbone, settings: MethodSettings) -> None:
        """Make ready to serve `backbone`; raises UserError where the two do not fit."""

    @abstractmethod
    def reset(self) -> None:
        """Forget the context."""

    @abstractmethod
    def write(self, chunk: Chunk) -> None:
        """Take in one chunk. Chunks come once each, in order; the method may buffer."""

    @abstractmethod
    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer each query from the memory as it stands and leave it unchanged; answers are in order."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """The memory, complete: restoring it in another process gives the same answers."""

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Make the memory what it was when `snapshot` was taken."""

    @abstractmethod
    def footprint(self) -> Footprint:
        """Bytes held for the context that was written."""

    @classmethod
    @abstractmethod
    def overhead(cls, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """Added parameters on a backbone of this shape; exact, from the shape alone."""

    @classmethod
    def adapter_hash(cls, folder: str) -> str:
        """Content hash of trained weights; it belongs to a cell's identity. Raises UserError for none."""
        from deltamem_eval.hashing import hash_weights

        return hash_weights(folder)

    @classmethod
    def parts(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """Content hashes of trained parts other than the adapter; they belong to a cell's identity."""
        return {}

    @classmethod
    def label(cls, options: Mapping[str, Any]) -> str:
        """The method's name in tables, with whatever a reader must know of it."""
        return cls.name

    def added(self, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """Added parameters as loaded; differs from `overhead` where trained weights chose another size.

        To be counted by a formula from what the weights' own config says: the conformance checks hold it
        against the tensors.
        """
        return self.overhead(shape, options)

    @property
    def capacity(self) -> int | None:
        """Associations under orthogonal keys that one layer's state holds exactly; None for no such bound."""
        return None

    def trained_tensors(self) -> Iterable[Tensor]:
        """The added tensors that were loaded, as `added` counts them; none for a method without."""
        return ()

    def close(self) -> None:  # noqa: B027 - most methods leave nothing on the backbone
        """Take everything off the backbone again, leaving it as it was."""


class TokenCounter(Protocol):
    """What a task may ask of a backbone before episodes are made: its name, and how it counts tokens.

    positions: the longest sequence it may see, in tokens.
    """

    name: str
    positions: int

    def length(self, text: str) -> int:
        """Tokens of a text."""

    def last(self, text: str, tokens: int) -> str:
        """The end of a text: its last `tokens` tokens, all of it where it has no more."""


class Task(ABC):
    """A benchmark: episodes, and the scores of answers.

    primary: name of the metric that tables show as accuracy, the higher the better; it is stored as
    `accuracy` too, in place of any other metric of that name. defaults: the task's options with their default
    values; the constructor takes them as keywords. seeded: whether the seed changes the episodes; where it
    does not, one seed is run. system: the message that opens every prompt, empty for none.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    primary: ClassVar[str] = "accuracy"
    seeded: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, Any]] = {}
    system: str = ""

    def prepare(self, backbone: TokenCounter) -> None:  # noqa: B027 - most tasks ask nothing of it
        """Told the backbone before episodes are made and the identity is asked for."""

    @abstractmethod
    def episodes(self, seed: int, limit: int | None) -> Iterator[Episode]:
        """Episodes of one seed, at most `limit` a category; the same arguments give the same episodes."""

    @abstractmethod
    def score(self, query: Query, answer: str) -> dict[str, float]:
        """Metrics of one answer, finite numbers; always holds `primary`, in 0..1.

        An answer whose score is none of that, or raises, is stored as failed with the reason.
        """

    def score_answer(self, query: Query, answer: Answer) -> dict[str, float]:
        """As `score`, for a task that asks more of an answer than its text: the likelihoods of choices."""
        return self.score(query, answer.text)

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What, besides seed and limit, decides the episodes: versions, file hashes, options; JSON values."""
