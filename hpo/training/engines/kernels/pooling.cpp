// Max pooling with the batch innermost. The backward pass needs the position of each maximum in its window, which is
// stored in one byte instead of torch's index of eight bytes.

#include <torch/library.h>

#include <algorithm>
#include <tuple>

#include "lanes.h"

namespace {

using at::Tensor;

typedef int32_t Positions __attribute__((vector_size(4 * kLanes)));
typedef uint8_t Bytes __attribute__((vector_size(kLanes), aligned(1)));

inline int64_t pooled(int64_t side, int64_t kernel, int64_t stride, int64_t padding) {
  return (side + 2 * padding - kernel) / stride + 1;
}

// Returns the maxima of all windows (B, C, H, W), and their positions in the windows, counted row by row, (C, H, W, B).
// Among equal pixels the first is the maximum. If there are NaNs, the last NaN is. `padding` is at most half the
// kernel.
std::tuple<Tensor, Tensor> max_pool(const Tensor& images, int64_t kernel, int64_t stride, int64_t padding) {
  check_batch(images);
  const Tensor in = batch_last(images);
  const int64_t channels = in.size(0), rows = in.size(1), columns = in.size(2), batch = in.size(3);
  const int64_t height = pooled(rows, kernel, stride, padding), width = pooled(columns, kernel, stride, padding);
  Tensor out = at::empty({channels, height, width, batch}, in.options());
  Tensor positions = at::empty({channels, height, width, batch}, in.options().dtype(at::kByte));
  const float* from = in.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  uint8_t* position = positions.mutable_data_ptr<uint8_t>();
  for (int64_t c = 0; c < channels; ++c, from += rows * columns * batch)
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x, to += batch, position += batch) {
        const int64_t top = y * stride - padding, left = x * stride - padding;
        const int64_t first_row = std::max<int64_t>(top, 0), first_column = std::max<int64_t>(left, 0);
        const int64_t last_row = std::min(top + kernel, rows), last_column = std::min(left + kernel, columns);
        for (int64_t b = 0; b < batch; b += kLanes) {
          Lanes most = all(-__builtin_inff());
          Positions where = Positions{} + static_cast<int32_t>((first_row - top) * kernel + first_column - left);
          for (int64_t h = first_row; h < last_row; ++h)
            for (int64_t w = first_column; w < last_column; ++w) {
              const Lanes value = load(from + (h * columns + w) * batch + b);
              const Positions larger = (value > most) | (value != value);
              most = larger ? value : most;
              where = larger ? Positions{} + static_cast<int32_t>((h - top) * kernel + w - left) : where;
            }
          store(to + b, most);
          *reinterpret_cast<Bytes*>(position + b) = __builtin_convertvector(where, Bytes);
        }
      }
  return {out.permute({3, 0, 1, 2}), positions};
}

// Returns the gradient of images of `rows` by `columns` pixels. A pixel gets the gradients of all windows of which it
// is the maximum.
Tensor max_pool_backward(const Tensor& gradient, const Tensor& positions, int64_t rows, int64_t columns, int64_t kernel,
                         int64_t stride, int64_t padding) {
  check_batch(gradient);
  const Tensor errors = batch_last(gradient);
  const Tensor contiguous_positions = positions.contiguous();
  TORCH_CHECK(positions.sizes() == errors.sizes(), "places of ", positions.sizes(), " for gradients of ",
              errors.sizes());
  const int64_t channels = errors.size(0), height = errors.size(1), width = errors.size(2), batch = errors.size(3);
  Tensor out = at::empty({channels, rows, columns, batch}, errors.options());
  const float* from = errors.const_data_ptr<float>();
  const uint8_t* position = contiguous_positions.const_data_ptr<uint8_t>();
  float* to = out.mutable_data_ptr<float>();
  const int64_t map = height * width * batch;
  for (int64_t c = 0; c < channels; ++c, from += map, position += map)
    for (int64_t h = 0; h < rows; ++h)
      for (int64_t w = 0; w < columns; ++w, to += batch) {
        const int64_t bottom = h + padding, right = w + padding;  // coordinates in the padded image
        const int64_t first_y = std::max<int64_t>((bottom - kernel) / stride + (bottom >= kernel), 0);
        const int64_t first_x = std::max<int64_t>((right - kernel) / stride + (right >= kernel), 0);
        const int64_t last_y = std::min(bottom / stride + 1, height), last_x = std::min(right / stride + 1, width);
        for (int64_t b = 0; b < batch; b += kLanes) {
          Lanes sum{};
          for (int64_t y = first_y; y < last_y; ++y)
            for (int64_t x = first_x; x < last_x; ++x) {
              const int64_t at = (y * width + x) * batch + b;
              const int32_t own = (bottom - y * stride) * kernel + right - x * stride;
              const auto where = __builtin_convertvector(*reinterpret_cast<const Bytes*>(position + at), Positions);
              sum += where == own ? load(from + at) : Lanes{};
            }
          store(to + b, sum);
        }
      }
  return out.permute({3, 0, 1, 2});
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hpo, library) {
  library.def("max_pool(Tensor images, int kernel, int stride, int padding) -> (Tensor, Tensor)");
  library.def(
      "max_pool_backward(Tensor gradient, Tensor positions, int rows, int columns, int kernel, int stride, int padding)"
      " -> Tensor");
}

TORCH_LIBRARY_IMPL(hpo, CPU, library) {
  library.impl("max_pool", max_pool);
  library.impl("max_pool_backward", max_pool_backward);
}
