"""Work lists: ragged sequence lengths go in, a flat list of equal tiles that threads can share comes out."""

from tvm.script import tirx as T


@T.macro
def list_tiles(indptr, batch, rows_per_token, tile_rows, owner, first_row, first_tile):
    """Cut each sequence of indptr[b + 1] - indptr[b] tokens into tiles of `tile_rows` rows.

    Tile i belongs to sequence owner[i] and starts at its row first_row[i]; the tiles of sequence b start at
    first_tile[b], and first_tile[batch] is their number.
    """
    first_tile[0] = 0
    for b in T.serial(batch):
        first_tile[b + 1] = first_tile[b] + ((indptr[b + 1] - indptr[b]) * rows_per_token + tile_rows - 1) // tile_rows
        for t in T.serial(first_tile[b + 1] - first_tile[b]):
            owner[first_tile[b] + t] = b
            first_row[first_tile[b] + t] = t * tile_rows


def from_both_ends(i, n):
    """The i-th of 0, n - 1, 1, n - 2, ...: with causal attention each half of that order is equal work."""
    return T.if_then_else(i % 2 == 0, i // 2, n - 1 - i // 2)
