"""The contract with TVM's paged KV cache: shapes, pages, and the arguments of its kernels."""
