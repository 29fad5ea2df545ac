"""Controls: whose context a cell writes."""

from __future__ import annotations

from collections.abc import Sequence

from deltamem_eval.interface import Episode


def donors(episodes: Sequence[Episode]) -> dict[str, Episode | None]:
    """For each episode's id, the episode whose memory the wrong-memory control uses.

    The next one, in order and around the end, of the same source with another context; else of any source.
    None where every context is the same.
    """
    contexts = [episode.context for episode in episodes]
    found: dict[str, Episode | None] = {}
    for index, episode in enumerate(episodes):
        ring = [(index + step) % len(episodes) for step in range(1, len(episodes))]
        others = [other for other in ring if contexts[other] != contexts[index]]
        same = [other for other in others if episodes[other].source == episode.source]
        chosen = same or others
        found[episode.id] = episodes[chosen[0]] if chosen else None
    return found
