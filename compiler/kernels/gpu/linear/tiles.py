"""Choose how a workgroup shares the work of a linear layer."""

from __future__ import annotations

from dataclasses import dataclass

from argosy.compiler.kernels.gpu.traits import GpuTraits


@dataclass(frozen=True, slots=True)
class RowTile:
    """For few tokens: `groups` groups of `lanes` threads, and each group reads `rows` rows of weights together.

    An input is then read once for all rows of a group.
    """

    lanes: int = 16
    rows: int = 4
    groups: int = 4

    @property
    def threads(self) -> int:
        """Threads of a workgroup."""
        return self.groups * self.lanes

    @property
    def all_rows(self) -> int:
        """Rows of weights of a workgroup."""
        return self.groups * self.rows

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a workgroup: the float32 sum of each thread, for every row of its group."""
        return 4 * self.all_rows * self.lanes


@dataclass(frozen=True, slots=True)
class MatrixTile:
    """For many tokens: `tokens` by `rows` sums, from `depth` columns of inputs and weights at a time.

    The sums are spread over `threads_y` by `threads_x` threads.
    """

    tokens: int
    rows: int
    depth: int
    threads_x: int
    threads_y: int

    @property
    def threads(self) -> int:
        """Threads of a workgroup."""
        return self.threads_x * self.threads_y

    @property
    def sums_x(self) -> int:
        """Rows of weights that a thread sums."""
        return self.rows // self.threads_x

    @property
    def sums_y(self) -> int:
        """Tokens that a thread sums."""
        return self.tokens // self.threads_y

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a workgroup, float32, with one more element to a column than there are tokens or rows."""
        return 4 * self.depth * (self.tokens + 1 + self.rows + 1)


# All of 4 by 4 sums to a thread, the largest first.
_MATRIX_TILES = (
    MatrixTile(tokens=64, rows=128, depth=32, threads_x=32, threads_y=16),
    MatrixTile(tokens=64, rows=64, depth=32, threads_x=16, threads_y=16),
    MatrixTile(tokens=32, rows=64, depth=32, threads_x=16, threads_y=8),
    MatrixTile(tokens=32, rows=64, depth=16, threads_x=16, threads_y=8),
    MatrixTile(tokens=32, rows=32, depth=16, threads_x=8, threads_y=8),
    MatrixTile(tokens=16, rows=32, depth=16, threads_x=8, threads_y=4),
)


def row_tile(traits: GpuTraits) -> RowTile:
    """Return the tile for few tokens: as many groups as there are threads for, at most 4."""
    lanes = RowTile().lanes
    tile = RowTile(groups=min(RowTile().groups, traits.threads // lanes))
    assert tile.groups and traits.fits(tile.threads, tile.shared_bytes), traits
    return tile


def matrix_tile(traits: GpuTraits) -> MatrixTile:
    """Return the largest tile that leaves room for a second workgroup, which computes while the first one loads."""
    for tile in _MATRIX_TILES:
        if traits.fits(tile.threads, tile.shared_bytes, workgroups=2):
            return tile
    assert traits.fits(tile.threads, tile.shared_bytes), traits
    return tile
