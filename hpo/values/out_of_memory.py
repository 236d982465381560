"""What the messages of torch say when memory runs out."""

OUT_OF_MEMORY = (
    "CUDA error: out of memory",
    "ALLOC_FAILED",  # of cuBLAS and cuDNN
    "CUDNN_STATUS_NOT_INITIALIZED",  # cuDNN found no memory to initialise itself
    "DefaultCPUAllocator",
)
"""Parts of the messages of out-of-memory errors that are not of type torch.OutOfMemoryError."""
