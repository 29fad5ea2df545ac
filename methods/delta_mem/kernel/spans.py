"""Triton programs over the tokens of a span: its map, its reads, and its gradients.

A lane is one span of one row of the batch: lane = row of the batch · spans + span. Tiles are [components,
columns] with the components of a state's row first: columns fill the threads of a warp, so that a sum over
components stays within a thread. Pointers: token tensors [batch, tokens, RANK], contiguous float32. R is RANK
padded to a power of two. Tokens past the end are neutral: a gate of decay 1, and zeros for all else.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["tokens", "spans", "total"])
def map_spans(
    q, k, v, beta, erase, decay, pull, maps, tokens, spans, total,
    RANK: tl.constexpr, R: tl.constexpr, SPAN: tl.constexpr, COLUMNS: tl.constexpr, BACKWARDS: tl.constexpr,
):  # fmt: skip
    """Maps of all spans but the last to be passed: maps [batch, spans - 1, RANK, RANK + 1, RANK].

    Row i of a map: what each component of row i of the state becomes, and last what an empty row becomes.
    BACKWARDS: spans and tokens from the last to the first, for the gradient of the state, which grows by
    pull·q (pull: gradient of the reads) where the state grows by β v k. total: columns of all maps, of RANK
    floats each.
    """
    column = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    live = column < total
    source, row = column % (RANK + 1), column // (RANK + 1) % RANK
    lane = column // (RANK * (RANK + 1))
    place = lane % (spans - 1)
    first = (spans - 1 - place if BACKWARDS else place) * SPAN
    token = lane // (spans - 1) * tokens + first
    component = tl.arange(0, R)[:, None]
    inner = component < RANK
    shift = live & (source == RANK)
    vector = tl.where((component == source[None, :]) & inner, 1.0, 0.0)
    for step in tl.range(SPAN, loop_unroll_factor=4):
        index = SPAN - 1 - step if BACKWARDS else step
        here = live & (first + index < tokens)
        gate = (token + index) * RANK + row
        place_of = (token + index)[None, :] * RANK + component
        there = here[None, :] & inner
        key = tl.load(k + place_of, mask=there, other=0.0)
        kept = tl.load(decay + gate, mask=here, other=1.0)
        erased = tl.load(erase + gate, mask=here, other=0.0) * tl.sum(vector * key, 0)
        if BACKWARDS:
            pulled = tl.load(pull + gate, mask=here & shift, other=0.0)
            query = tl.load(q + place_of, mask=there, other=0.0)
            vector = kept[None, :] * vector - erased[None, :] * key + pulled[None, :] * query
        else:
            written = tl.load(beta + gate, mask=here & shift, other=0.0)
            written *= tl.load(v + gate, mask=here & shift, other=0.0)
            vector = kept[None, :] * vector + (written - erased)[None, :] * key
    tl.store(maps + column[None, :] * RANK + component, vector, mask=live[None, :] & inner)


@triton.jit(do_not_specialize=["tokens", "spans", "lanes"])
def walk_spans(
    q, k, v, beta, erase, decay, starts, reads, end, marks, tokens, spans, lanes,
    RANK: tl.constexpr, R: tl.constexpr, SPAN: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
    MARKING: tl.constexpr,
):  # fmt: skip
    """From starts [batch, spans, RANK, RANK]: reads [batch, tokens, RANK] and the end state [batch, RANK,
    RANK]; or, MARKING, the state before every BLOCK tokens: marks [batch, spans, SPAN / BLOCK, RANK, RANK].
    """
    lane, row, live, state_at = _columns(lanes, RANK, R, LANES)
    first = lane % spans * SPAN
    token = lane // spans * tokens + first
    component = tl.arange(0, R)[:, None]
    inner = component < RANK
    whole = live[None, :] & inner
    state = tl.load(starts + state_at, mask=whole, other=0.0)
    for block in range(tl.cdiv(tl.minimum(tokens, SPAN), BLOCK)):
        if MARKING:
            mark = (lane[None, :] * (SPAN // BLOCK - 1) + block) * RANK * RANK
            tl.store(marks + mark + state_at, state, mask=whole)
        # All loads stand before the first store, so that none of them waits for it.
        coming = ()
        for step in tl.static_range(BLOCK):
            index = block * BLOCK + step
            here = live & (first + index < tokens)
            coming = coming + (_token(q, k, v, beta, erase, decay, token + index, row, here, RANK, R),)  # noqa: RUF005
        for step in tl.static_range(BLOCK):
            query, key, value, write, erased, kept = coming[step]
            if not MARKING:
                index = block * BLOCK + step
                here = live & (first + index < tokens)
                tl.store(reads + (token + index) * RANK + row, tl.sum(state * query, 0), mask=here)
            written = write * value - erased * tl.sum(state * key, 0)
            state = kept[None, :] * state + written[None, :] * key
    if not MARKING:
        last = whole & (lane % spans == spans - 1)[None, :]
        tl.store(end + state_at - (lane - lane // spans)[None, :] * RANK * RANK, state, mask=last)


@triton.jit(do_not_specialize=["tokens", "spans", "lanes"])
def differentiate_spans(
    q, k, v, beta, erase, decay, pull, marks, ends, d_q, d_k, d_v, d_beta, d_erase, d_decay, d_state,
    tokens, spans, lanes,
    RANK: tl.constexpr, R: tl.constexpr, SPAN: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of the six token tensors, and of the state before the first token [batch, RANK, RANK].

    From marks (see `walk_spans`), pull (the gradient of the reads), and ends: the gradient of the state after
    each span, spans from the last to the first. With y = g·k, g the gradient of the state after a token:
    g before it = λ g - e y k + pull q. The states of BLOCK tokens are held at a time.
    """
    lane, row, live, state_at = _columns(lanes, RANK, R, LANES)
    span = lane % spans
    first = span * SPAN
    token = lane // spans * tokens + first
    component = tl.arange(0, R)[:, None]
    inner = component < RANK
    whole = live[None, :] & inner
    mirrored = (spans - 1 - 2 * span)[None, :] * RANK * RANK
    grown = tl.load(ends + state_at + mirrored, mask=whole, other=0.0)
    # One column per lane holds what is summed over the rows of its state.
    sums_lane = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    sums_first = sums_lane % spans * SPAN
    sums_token = sums_lane // spans * tokens + sums_first
    blocks = tl.cdiv(tl.minimum(tokens, SPAN), BLOCK)
    for block in range(blocks):
        begin = (blocks - 1 - block) * BLOCK
        mark = (lane[None, :] * (SPAN // BLOCK - 1) + begin // BLOCK) * RANK * RANK
        state = tl.load(marks + mark + state_at, mask=whole, other=0.0)
        states = ()
        recalls = ()
        pulls = ()
        coming = ()
        for step in tl.static_range(BLOCK):
            here = live & (first + begin + step < tokens)
            coming = coming + (_token(q, k, v, beta, erase, decay, token + begin + step, row, here, RANK, R),)  # noqa: RUF005
            pulls = pulls + (tl.load(pull + (token + begin + step) * RANK + row, mask=here, other=0.0),)  # noqa: RUF005
        for step in tl.static_range(BLOCK):
            query, key, value, write, erased, kept = coming[step]
            recalled = tl.sum(state * key, 0)
            states = states + (state,)  # noqa: RUF005
            recalls = recalls + (recalled,)  # noqa: RUF005
            state = kept[None, :] * state + (write * value - erased * recalled)[None, :] * key
        for step in tl.static_range(BLOCK - 1, -1, -1):
            query, key, value, write, erased, kept = coming[step]
            state, recalled, pulled = states[step], recalls[step], pulls[step]
            here = live & (first + begin + step < tokens)
            gate = (token + begin + step) * RANK + row
            y = tl.sum(grown * key, 0)
            tl.store(d_v + gate, y * write, mask=here)
            tl.store(d_beta + gate, y * value, mask=here)
            tl.store(d_erase + gate, -y * recalled, mask=here)
            tl.store(d_decay + gate, tl.sum(grown * state, 0), mask=here)
            to_key = (write * value - erased * recalled)[None, :] * grown - (erased * y)[None, :] * state
            sums_at = (sums_token + begin + step)[None, :] * RANK + component
            sums_there = ((sums_lane < lanes) & (sums_first + begin + step < tokens))[None, :] & inner
            tl.store(d_q + sums_at, _over_rows(pulled[None, :] * state, R, LANES), mask=sums_there)
            tl.store(d_k + sums_at, _over_rows(to_key, R, LANES), mask=sums_there)
            grown = kept[None, :] * grown - (erased * y)[None, :] * key + pulled[None, :] * query
    start = whole & (span == 0)[None, :]
    tl.store(d_state + state_at - (lane - lane // spans)[None, :] * RANK * RANK, grown, mask=start)


@triton.jit
def _columns(lanes, RANK: tl.constexpr, R: tl.constexpr, LANES: tl.constexpr):
    """Of a tile [R, LANES · R]: each column's lane and row of the state, whether it is one, and where its
    components stand in a tensor [lanes, RANK, RANK].
    """
    column = tl.arange(0, LANES * R)
    lane, row = tl.program_id(0).to(tl.int64) * LANES + column // R, column % R
    state_at = (lane * RANK + row)[None, :] * RANK + tl.arange(0, R)[:, None]
    return lane, row, (lane < lanes) & (row < RANK), state_at


@triton.jit
def _token(q, k, v, beta, erase, decay, token, row, here, RANK: tl.constexpr, R: tl.constexpr):
    """What the columns need of one token each: query and key [R, columns], value and gates [columns]."""
    component = tl.arange(0, R)[:, None]
    place = token[None, :] * RANK + component
    there = here[None, :] & (component < RANK)
    gate = token * RANK + row
    return (
        tl.load(q + place, mask=there, other=0.0),
        tl.load(k + place, mask=there, other=0.0),
        tl.load(v + gate, mask=here, other=0.0),
        tl.load(beta + gate, mask=here, other=0.0),
        tl.load(erase + gate, mask=here, other=0.0),
        tl.load(decay + gate, mask=here, other=1.0),
    )


@triton.jit
def _over_rows(tile, R: tl.constexpr, LANES: tl.constexpr):
    """Sum over the rows of each lane's state: [R, LANES · R] to [R, LANES]."""
    return tl.sum(tl.reshape(tile, [R, LANES, R]), 2)
