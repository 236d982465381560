"""How a step is computed: eagerly, as a CUDA graph, as a compiled program, or the fastest of these."""
