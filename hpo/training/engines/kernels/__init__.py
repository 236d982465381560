"""Convolution and pooling kernels for the CPU, in C++, and their build."""
