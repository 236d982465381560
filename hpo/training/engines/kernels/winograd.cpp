// Convolutions of 3x3 and 5x5 by Winograd's minimal filtering (Lavin, Gray (2015), "Fast Algorithms for Convolutional
// Neural Networks", arXiv 1509.09308), with stride 1 and the batch innermost.
//
// A tile of 6x6 pixels gives 4x4 pixels of a map with a 3x3 kernel, or 2x2 with a 5x5 kernel. A tile of 7x7 gives 5x5
// or 3x3. With B, G and A of their section 4, y = A^T [(G g G^T) * (B^T d B)] A, where * multiplies point by point.
// This takes 36 multiplications instead of 144 (3x3) or 100 (5x5) with tiles of 6x6, and 49 instead of 225 with 7x7.
// Sums over inputs, maps or the batch are taken between the transforms, so at each point they are a product of two
// matrices.
//
// The kernels use one thread. The terms of a sum and their order depend on the shapes and the tile alone, so results
// are reproducible.

#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "winograd_transforms.h"

namespace {

using at::Tensor;

// Adds to `sums` the product of `factors` (depth, 8), `factor_step` apart, and `values` (columns, depth, 16),
// `column_step` apart.
template <int kColumns>
inline __attribute__((always_inline)) void multiply(int64_t depth, const float* factors, int64_t factor_step,
                                                    const float* values, int64_t column_step,
                                                    Lanes (&sums)[kRows][kColumns]) {
  for (int64_t k = 0; k < depth; ++k, factors += factor_step, values += kLanes) {
    Lanes row[kColumns];
#pragma GCC unroll 3
    for (int c = 0; c < kColumns; ++c) row[c] = load(values + c * column_step);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Lanes factor = all(factors[r]);
#pragma GCC unroll 3
      for (int c = 0; c < kColumns; ++c) sums[r][c] += factor * row[c];
    }
  }
}

// Multiplies `factors` (blocks, depth, 8) by `values` (kColumns, depth, 16) to (kColumns, blocks * 8, 16).
template <int kColumns>
void product(int64_t blocks, int64_t depth, const float* factors, const float* values, float* out) {
  for (int64_t b = 0; b < blocks; ++b) {
    Lanes sums[kRows][kColumns] = {};
    multiply(depth, factors + b * depth * kRows, kRows, values, depth * kLanes, sums);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
      for (int c = 0; c < kColumns; ++c) store(out + ((c * blocks + b) * kRows + r) * kLanes, sums[r][c]);
  }
}

void products(int64_t columns, int64_t blocks, int64_t depth, const float* factors, const float* values, float* out) {
  const int64_t column = depth * kLanes, to = blocks * kRows * kLanes;
  int64_t c = 0;
  for (; c + 3 <= columns; c += 3) product<3>(blocks, depth, factors, values + c * column, out + c * to);
  for (; c + 2 <= columns; c += 2) product<2>(blocks, depth, factors, values + c * column, out + c * to);
  for (; c < columns; ++c) product<1>(blocks, depth, factors, values + c * column, out + c * to);
}

// Correlates `images` (inputs, H, W, B) with the kernels of `weight` (maps, inputs, kernel, kernel). For the gradient
// of images, `transposed` exchanges maps and inputs and rotates the kernels by 180 degrees.
template <int kTile, int kKernel>
Tensor correlate(const Tensor& images, const Tensor& weight, bool transposed, const float* bias, int64_t padding,
                 int64_t height, int64_t width) {
  constexpr int kPoints = kTile * kTile;
  const Images in = Images::of_images(images);
  const int64_t maps = weight.size(transposed ? 1 : 0), inputs = in.depth, blocks = (maps + kRows - 1) / kRows;
  const Tiles tiles(kOut<kTile, kKernel>, height, width, in.blocks);
  const int64_t depth = blocks * kRows;
  const int64_t factor_gap = depth * inputs + kGap, in_gap = tiles.at_once * inputs * kLanes + kGap,
                out_gap = tiles.at_once * depth * kLanes + kGap;
  Tensor buffer = at::empty({kPoints * (factor_gap + in_gap + out_gap)}, images.options());
  float* factors = buffer.mutable_data_ptr<float>();
  float* values = factors + kPoints * factor_gap;
  float* points = values + kPoints * in_gap;
  const int64_t kernel = kKernel * kKernel, row = weight.size(1) * kernel;
  transform_weight<kTile, kKernel>(weight.const_data_ptr<float>(), maps, inputs, transposed ? kernel : row,
                                   transposed ? row : kernel, transposed, factors, factor_gap);
  Tensor out = at::empty({maps, height, width, images.size(3)}, images.options());
  for (int64_t first = 0; first < tiles.count; first += tiles.at_once) {
    const int64_t last = std::min(tiles.count, first + tiles.at_once);
    transform<Pixels<kTile>>(in, padding, tiles, first, last, values, in_gap);
    for (int p = 0; p < kPoints; ++p)
      products(last - first, blocks, inputs, factors + p * factor_gap, values + p * in_gap, points + p * out_gap);
    restore<kTile, kKernel>(points, out_gap, depth, tiles, first, last, bias, out);
  }
  return out;
}

// Exchanges the lanes of `first` whose index has the bit `kStep` with the lanes of `second` whose index lacks it.
template <int kStep, size_t... kLane>
inline void exchange(Lanes& first, Lanes& second, std::index_sequence<kLane...>) {
  const Lanes old_first = first, old_second = second;
  first = __builtin_shufflevector(old_first, old_second, (kLane & kStep ? kLanes + kLane - kStep : kLane)...);
  second = __builtin_shufflevector(old_first, old_second, (kLane & kStep ? kLanes + kLane : kLane + kStep)...);
}

// Transposes a 16x16 matrix of 16 vectors in place.
template <int kStep = kLanes / 2>
inline void transpose(Lanes (&rows)[kLanes]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i)
    if (!(i & kStep)) exchange<kStep>(rows[i], rows[i + kStep], std::make_index_sequence<kLanes>{});
  if constexpr (kStep > 1) transpose<kStep / 2>(rows);
}

// Returns (C, H, W, B) as (B, H, W, C), padded with channels of zeros to a multiple of 16.
Tensor channels_last(const Tensor& images) {
  const int64_t depth = images.size(0), pixels = images.size(1) * images.size(2), batch = images.size(3);
  const int64_t lanes = (depth + kLanes - 1) / kLanes * kLanes;
  Tensor out = at::empty({batch, images.size(1), images.size(2), lanes}, images.options());
  const float* from = images.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  for (int64_t b = 0; b < batch; b += kLanes)
    for (int64_t c = 0; c < lanes; c += kLanes)
      for (int64_t p = 0; p < pixels; ++p) {
        Lanes block[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i)
          block[i] = c + i < depth ? load(from + ((c + i) * pixels + p) * batch + b) : Lanes{};
        transpose(block);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store(to + ((b + i) * pixels + p) * lanes + c, block[i]);
      }
  return out;
}

// For 8 maps and `kColumns` vectors of inputs, sums the products of `gradients` (tiles, 16, 16) and `pixels`
// (tiles, columns, 16, 16) over the tiles and their 16 images. 8 of the lanes of `gradients` are the maps. The sums
// replace `out` if `is_first`, otherwise they are added to it.
template <int kColumns>
void accumulate(int64_t tiles, const float* gradients, int64_t gradient_tile, const float* pixels, int64_t pixel_tile,
                bool is_first, float* out, int64_t out_row) {
  Lanes sums[kRows][kColumns] = {};
  for (int64_t t = 0; t < tiles; ++t)
    multiply(kLanes, gradients + t * gradient_tile, kLanes, pixels + t * pixel_tile, kLanes * kLanes, sums);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
    for (int c = 0; c < kColumns; ++c) {
      float* to = out + r * out_row + c * kLanes;
      store(to, is_first ? sums[r][c] : load(to) + sums[r][c]);
    }
}

// Computes the gradient of the weight from `images` (inputs, H, W, B) and `gradient` (maps, H, W, B). It is the
// derivative of the convolution, G^T [(B^T d B) * (A e A^T)] G, summed over tiles and batch. Both inputs are brought to
// channels last first. A vector then holds several weights, so no sum needs to be added up across lanes.
template <int kTile, int kKernel>
Tensor weight_gradient(const Tensor& images, const Tensor& gradient, int64_t padding) {
  constexpr int kPoints = kTile * kTile;
  const Tensor images_last = channels_last(images), gradient_last = channels_last(gradient);
  const Images in = Images::of_channels(images_last), errors = Images::of_channels(gradient_last);
  const Tiles tiles(kOut<kTile, kKernel>, errors.height, errors.width, errors.blocks);
  const int64_t inputs = in.vectors * kLanes, maps = errors.vectors * kLanes;
  const int64_t in_tile = inputs * kLanes, error_tile = maps * kLanes;
  const int64_t in_gap = tiles.at_once * in_tile + kGap, error_gap = tiles.at_once * error_tile + kGap,
                sum_gap = maps * inputs + kGap;
  Tensor buffer = at::empty({kPoints * (in_gap + error_gap + sum_gap)}, images.options());
  float* pixels = buffer.mutable_data_ptr<float>();
  float* gradients = pixels + kPoints * in_gap;
  float* sums = gradients + kPoints * error_gap;
  for (int64_t first = 0; first < tiles.count; first += tiles.at_once) {
    const int64_t last = std::min(tiles.count, first + tiles.at_once);
    transform<Pixels<kTile>>(in, padding, tiles, first, last, pixels, in_gap);
    transform<Gradients<kTile, kKernel>>(errors, 0, tiles, first, last, gradients, error_gap);
    for (int p = 0; p < kPoints; ++p)
      for (int64_t c = 0; c < in.vectors;) {
        const int64_t columns = std::min<int64_t>(in.vectors - c, 3);
        const auto add = columns == 3 ? accumulate<3> : columns == 2 ? accumulate<2> : accumulate<1>;
        for (int64_t r = 0; r < maps; r += kRows)
          add(last - first, gradients + p * error_gap + r / kLanes * kLanes * kLanes + r % kLanes, error_tile,
              pixels + p * in_gap + c * kLanes * kLanes, in_tile, first == 0,
              sums + p * sum_gap + r * inputs + c * kLanes, inputs);
        c += columns;
      }
  }
  return restore_weight<kTile, kKernel>(sums, sum_gap, inputs, gradient.size(0), images.size(0), images.options());
}

// Calls `run`, a function template, with the tile and the kernel as template arguments.
template <class Run>
auto of_sizes(int64_t tile, const Tensor& weight, const Run& run) {
  const int64_t height = weight.size(2), width = weight.size(3);
  TORCH_CHECK(height == width && (height == 3 || height == 5), "a kernel of ", height, "x", width,
              " is neither 3x3 nor 5x5");
  TORCH_CHECK(tile == 6 || tile == 7, "a tile of ", tile, "x", tile, " is neither 6x6 nor 7x7");
  if (tile == 6) return height == 3 ? run.template operator()<6, 3>() : run.template operator()<6, 5>();
  return height == 3 ? run.template operator()<7, 3>() : run.template operator()<7, 5>();
}

// Equals `convolution` of convolution.cpp with stride 1. `tile` is the height and width of the tiles.
Tensor winograd(const Tensor& images, const Tensor& weight, const std::optional<Tensor>& bias, int64_t padding,
                int64_t tile) {
  check_convolution(images, weight);
  const Tensor in = batch_last(images), factors = weight.contiguous();
  const Tensor offsets = bias ? bias->contiguous() : Tensor();
  const float* shift = bias ? offsets.const_data_ptr<float>() : nullptr;
  const int64_t growth = 2 * padding + 1 - weight.size(2), height = in.size(1) + growth, width = in.size(2) + growth;
  const auto run = [&]<int kTile, int kKernel> {
    return correlate<kTile, kKernel>(in, factors, false, shift, padding, height, width);
  };
  return of_sizes(tile, weight, run).permute({3, 0, 1, 2});
}

// Equals `convolution_backward` of convolution.cpp with stride 1.
std::tuple<Tensor, Tensor, Tensor> winograd_backward(const Tensor& gradient, const Tensor& images, const Tensor& weight,
                                                     int64_t padding, int64_t tile, bool needs_images) {
  check_convolution(images, weight);
  const Tensor in = batch_last(images), errors = batch_last(gradient), factors = weight.contiguous();
  const int64_t outside = weight.size(2) - 1 - padding;
  Tensor gradient_of_images = at::empty({0}, images.options());
  const auto run = [&]<int kTile, int kKernel> {
    if (needs_images)
      gradient_of_images = correlate<kTile, kKernel>(errors, factors, true, nullptr, outside, in.size(1), in.size(2))
                     .permute({3, 0, 1, 2});
    return weight_gradient<kTile, kKernel>(in, errors, padding);
  };
  const Tensor gradient_of_weight = of_sizes(tile, weight, run);
  return {gradient_of_images, gradient_of_weight, errors.sum({1, 2, 3})};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hpo, library) {
  library.def("winograd(Tensor images, Tensor weight, Tensor? bias, int padding, int tile) -> Tensor");
  library.def(
      "winograd_backward(Tensor gradient, Tensor images, Tensor weight, int padding, int tile, bool needs_images)"
      " -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(hpo, CPU, library) {
  library.impl("winograd", winograd);
  library.impl("winograd_backward", winograd_backward);
}
