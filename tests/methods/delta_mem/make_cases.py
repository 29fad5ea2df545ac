"""Writes cases.json: small random inputs, and what the recurrence gives in plain Python floats.

Run it by hand after a deliberate change of the recurrence: `python tests/methods/delta_mem/make_cases.py`.
"""

import json
from pathlib import Path
from random import Random

MODES = ("standard", "lambda_outside", "no_lambda")
Vector = list[float]


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def recurrence(mode: str, case: dict) -> tuple[list[Vector], list[Vector]]:
    """Equations of arXiv 2605.12357, section 3, one number at a time; no tensor library."""
    state = [list(row) for row in case["state"]]
    reads = []
    for q, k, v, beta, decay in zip(*(case[name] for name in ("q", "k", "v", "beta", "decay")), strict=True):
        reads.append([dot(row, q) for row in state])
        recalled = [dot(row, k) for row in state]
        for i, row in enumerate(state):
            keep = 1.0 if mode == "no_lambda" else decay[i]
            if mode == "lambda_outside":
                fresh = [keep * (x - beta[i] * recalled[i] * kj) for x, kj in zip(row, k, strict=True)]
            else:
                fresh = [keep * x - beta[i] * recalled[i] * kj for x, kj in zip(row, k, strict=True)]
            state[i] = [x + beta[i] * v[i] * kj for x, kj in zip(fresh, k, strict=True)]
    return reads, state


def draw(rng: Random, tokens: int, rank: int) -> dict:
    def unit() -> Vector:
        vector = [rng.gauss(0, 1) for _ in range(rank)]
        length = dot(vector, vector) ** 0.5
        return [round(x / length, 6) for x in vector]

    def gates() -> Vector:
        return [round(rng.random(), 6) for _ in range(rank)]

    def plain() -> Vector:
        return [round(rng.gauss(0, 1), 6) for _ in range(rank)]

    makers = {"q": unit, "k": unit, "v": plain, "beta": gates, "decay": gates}
    case = {name: [maker() for _ in range(tokens)] for name, maker in makers.items()}
    return {**case, "state": [plain() for _ in range(rank)]}


def main() -> None:
    rng = Random(1)
    cases = []
    for mode in MODES:
        for tokens, rank in ((1, 2), (5, 3), (19, 4)):
            case = draw(rng, tokens, rank)
            reads, end = recurrence(mode, case)
            cases.append({"mode": mode, **case, "reads": reads, "end": end})
    Path(__file__).with_name("cases.json").write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
