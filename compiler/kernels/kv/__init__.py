"""The contract with the paged KV cache of TVM: shapes, pages, and the arguments its kernels are called with."""
