"""Questions that ran out of less time than they are given now: they are asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltamem_eval.deadline import ran_out_of_less
from deltamem_eval.errors import UserError
from deltamem_eval.files import write_atomic

if TYPE_CHECKING:
    from deltamem_eval.store import CellStore, Sample


def reopen(place: CellStore, seconds: float | None) -> int:
    """Take the samples out of a cell that ran out of less time than `seconds`, so that they are asked again;
    how many. seconds: None for no limit.

    The cell's end goes before them: a kill in between leaves an unfinished cell that still accounts for them.
    Raises UserError where the disk refuses.
    """
    samples = place.samples()
    kept = [sample for sample in samples if not _late(sample, seconds)]
    if len(kept) < len(samples):
        file = place.path / "samples.jsonl"
        try:
            (place.path / "cell.json").unlink(missing_ok=True)
            write_atomic(file, "".join(sample.model_dump_json() + "\n" for sample in kept))
        except OSError as error:
            raise UserError(f"cannot write to {file}: {error.strerror or error}") from None
    return len(samples) - len(kept)


def _late(sample: Sample, seconds: float | None) -> bool:
    return sample.status == "timeout" and ran_out_of_less(sample.error, seconds)
