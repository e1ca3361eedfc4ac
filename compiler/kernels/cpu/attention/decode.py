"""Attend from one query token per sequence to the cached pages."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, block, flattened, parallel_for, scratch, when
from argosy.compiler.kernels.cpu.attention.merge import SERIAL_ROWS
from argosy.compiler.kernels.cpu.attention.tile import KeyBlock, Tiles
from argosy.compiler.kernels.cpu.lanes import constant, convert, load, splat, store
from argosy.compiler.kernels.kv.arguments import DecodeArguments
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape

BLOCK = 4  # pages that are processed together
# A batch is cut along the keys until there are this many work items, but no part gets fewer pages than MIN_PAGES.
WORK_ITEMS = 48
MIN_PAGES = 8


def decode(shape: AttentionShape, sliding: bool) -> tirx.PrimFunc:
    """Build the attention of the newest token of each sequence to the cache, which already holds that token.

    The keys of each sequence are cut into parts, so that a single sequence occupies all threads; the results of the
    parts are merged at the end.
    """
    d, heads, kv_heads, group = shape.head_dim, shape.heads, shape.kv_heads, shape.group
    rows = shape.decode_rows
    tiles = -(-group // rows)

    with Kernel("attention_decode_sliding" if sliding else "attention_decode") as kernel:
        args = DecodeArguments(kernel, shape, sliding)
        batch, cache = args.batch, args.cache
        flat = flattened(cache.pages)
        most = T.max(1, T.min(WORK_ITEMS // (batch * kv_heads * tiles), cache.num_ids // (batch * MIN_PAGES)))
        # Buffers of the root block may not depend on variables that are bound in it: hence the expression for sizes.
        part_output = scratch((batch * most, heads, d), "float32")
        part_lse = scratch((batch * most, heads), "float32")
        parts = T.bind(most)
        with T.parallel(batch * kv_heads * tiles * parts) as u, block("tile"):
            b = T.bind(u // (kv_heads * tiles * parts))
            head = T.bind(u // (tiles * parts) % kv_heads)
            first_row = T.bind(u // parts % tiles * rows)
            part = T.bind(u % parts)
            length = T.bind(cache.length(b))
            low = cache.offset(b)
            high = T.bind(low + length)
            if sliding:
                low = T.bind(low + cache.before_window(b, length))
            tile = Tiles(shape, rows, BLOCK)
            tile.start(0)
            with T.serial(rows) as r:
                query_head = head * group + T.min(first_row + r, group - 1)
                tile.load_query(0, r, args.q, b, query_head, args.scale, low, high)
            places = scratch(2 * BLOCK, "int32")
            pages_of_head = KeyBlock(
                flat,
                BLOCK,
                lambda j: places[j],
                lambda j: places[j] + shape.side_elements,
                lambda j: places[BLOCK + j],
                lambda j: places[BLOCK + j] + shape.side_elements,
            )
            first_block = T.bind(tile.first[0] // (BLOCK * PAGE_SIZE))
            count = T.bind(T.max((tile.end[0] + BLOCK * PAGE_SIZE - 1) // (BLOCK * PAGE_SIZE) - first_block, 0))
            with T.serial(first_block + count * part // parts, first_block + count * (part + 1) // parts) as i:
                last_page = T.bind((tile.end[0] - 1) // PAGE_SIZE)

                def place(p: tirx.Expr) -> tirx.Expr:
                    """Return where the keys of page p start; masked pages after the last load the last."""
                    return cache.keys(b, head, T.min(p, last_page))

                for j in range(2 * BLOCK):
                    T.buffer_store(places, place(i * BLOCK + j), [j])
                tile.attend_between(0, pages_of_head, i * (BLOCK * PAGE_SIZE))
            with T.serial(rows) as r, when(first_row + r < group):
                tile.finish(0, r, part_output, part_lse, b * parts + part, head * group + first_row + r)

        def merge_parts(row: tirx.Var) -> None:
            with block("merge"):
                b, head = T.bind(row // heads), T.bind(row % heads)
                _merge_parts(shape, part_output, part_lse, parts, args.output, args.lse, b, head)

        parallel_for(batch * heads, SERIAL_ROWS, merge_parts)
    return kernel.function


def _merge_parts(
    shape: AttentionShape,
    part_output: tirx.Buffer,
    part_lse: tirx.Buffer,
    parts: tirx.Expr,
    output: tirx.Buffer,
    lse: tirx.Buffer,
    b: tirx.Expr,
    head: tirx.Expr,
) -> None:
    """Compute output[b, head] and lse[b, head] from those of the parts."""
    d, lanes = shape.head_dim, shape.lanes
    m = scratch(1, "float32")
    weight = scratch(1, "float32")
    weights = scratch(1, "float32")
    sums = scratch(d, "float32")
    T.buffer_store(m, part_lse[b * parts, head], [0])
    T.buffer_store(weights, T.float32(0), [0])
    with T.serial(d // lanes) as x:
        store(sums, constant(0.0, lanes=lanes), x * lanes, lanes=lanes)
    with T.serial(parts) as i:
        T.buffer_store(m, T.max(m[0], part_lse[b * parts + i, head]), [0])
    with T.serial(parts) as i:
        T.buffer_store(weight, T.exp2(part_lse[b * parts + i, head] - m[0]), [0])
        T.buffer_store(weights, weights[0] + weight[0], [0])
        with T.serial(d // lanes) as x:
            value = splat(weight[0], lanes) * load(part_output, b * parts + i, head, x * lanes, lanes=lanes)
            store(sums, load(sums, x * lanes, lanes=lanes) + value, x * lanes, lanes=lanes)
    T.buffer_store(lse, m[0] + T.log2(weights[0]), [b, head])
    with T.serial(d // lanes) as x:
        value = load(sums, x * lanes, lanes=lanes) * splat(T.float32(1) / weights[0], lanes)
        store(output, convert(value, shape.dtype, lanes), b, head, x * lanes, lanes=lanes)
