// Shared by all kernels. Images have the batch innermost in memory, (C, H, W, B). A vector register then holds one
// pixel of 16 images, so every multiplication uses the full register, whatever the number of channels.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <cstdint>

constexpr int64_t kLanes = 16;
typedef float Lanes __attribute__((vector_size(4 * kLanes), aligned(4)));

// A vector with `value` in all lanes. The subtraction keeps -0, whereas adding 0 would turn it into 0.
inline Lanes all(float value) { return value - Lanes{}; }
inline Lanes load(const float* from) { return *reinterpret_cast<const Lanes*>(from); }
inline void store(float* to, Lanes value) { *reinterpret_cast<Lanes*>(to) = value; }

inline void check_batch(const at::Tensor& images) {
  const int64_t batch = images.size(0);
  TORCH_CHECK(batch > 0 && batch % kLanes == 0, "a batch of ", batch, " is not a multiple of ", kLanes);
}

inline void check_convolution(const at::Tensor& images, const at::Tensor& weight) {
  check_batch(images);
  TORCH_CHECK(images.size(1) == weight.size(1), "images of ", images.size(1), " channels for a weight of ",
              weight.size(1));
}

// Returns (B, C, H, W) as (C, H, W, B), contiguous.
inline at::Tensor batch_last(const at::Tensor& images) { return images.permute({1, 2, 3, 0}).contiguous(); }
