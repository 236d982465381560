// Convolutions of few channels on a CPU, with the batch as the innermost axis: (C, H, W, B).
//
// Libraries that put channels innermost pad 1 or 6 channels to 16. Here each tile keeps its sums in registers. The
// kernels use one thread. The terms of a sum and their order depend on the shapes alone, so results are reproducible.

#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "lanes.h"

namespace {

using at::Tensor;

struct Shape {
  int64_t batch, inputs, maps, kernel_h, kernel_w, in_h, in_w, out_h, out_w, stride, pad_h, pad_w;
};

// The rows or columns of a kernel that lie on the image when its first row or column is at `start`.
struct Range {
  int64_t first, last;
  Range(int64_t start, int64_t kernel, int64_t size)
      : first(std::max<int64_t>(0, -start)), last(std::min(kernel, size - start)) {}
};

// Computes `kMaps` maps at `kColumns` neighbouring pixels of one row. `in` is the pixel under the kernel's first
// weight, which may lie outside the image. `rows` and `columns` are the part of the kernel that lies on the image.
// `weight` is (inputs, kernel_h, kernel_w, kMaps).
template <int kMaps, int kColumns>
inline void tile(const Shape& s, const float* in, const float* weight, const float* bias, float* out, const Range& rows,
                 const Range& columns) {
  Lanes sums[kMaps][kColumns];
  for (int m = 0; m < kMaps; ++m)
    for (int c = 0; c < kColumns; ++c) sums[m][c] = all(bias ? bias[m] : 0.0f);
  const int64_t row = s.in_w * s.batch, step = s.stride * s.batch;
  for (int64_t i = 0; i < s.inputs; ++i)
    for (int64_t kh = rows.first; kh < rows.last; ++kh) {
      const float* pixels = in + (i * s.in_h + kh) * row + columns.first * s.batch;
      const float* factors = weight + ((i * s.kernel_h + kh) * s.kernel_w + columns.first) * kMaps;
      for (int64_t kw = columns.first; kw < columns.last; ++kw, pixels += s.batch, factors += kMaps) {
        Lanes values[kColumns];
#pragma GCC unroll 8
        for (int c = 0; c < kColumns; ++c) values[c] = load(pixels + c * step);
#pragma GCC unroll 8
        for (int m = 0; m < kMaps; ++m) {
          const Lanes factor = all(factors[m]);
#pragma GCC unroll 8
          for (int c = 0; c < kColumns; ++c) sums[m][c] += factor * values[c];
        }
      }
    }
  for (int m = 0; m < kMaps; ++m)
    for (int c = 0; c < kColumns; ++c) store(out + m * s.out_h * s.out_w * s.batch + c * s.batch, sums[m][c]);
}

template <int kMaps>
void correlate_maps(const Shape& s, const float* in, const float* weight, const float* bias, float* out) {
  constexpr int kColumns = kMaps > 6 ? 3 : 4;  // at most 24 sums, which leaves registers for the factors
  const int64_t step = s.stride * s.batch;
  // In columns [inside, outside) the whole width of the kernel lies on the image.
  const int64_t inside = std::min(s.out_w, (s.pad_w + s.stride - 1) / s.stride);
  const int64_t outside = std::max(inside, std::min(s.out_w, (s.in_w + s.pad_w - s.kernel_w) / s.stride + 1));
  const Range whole(0, s.kernel_w, s.in_w + s.kernel_w);
  for (int64_t b = 0; b < s.batch; b += kLanes)
    for (int64_t h = 0; h < s.out_h; ++h) {
      const int64_t top = h * s.stride - s.pad_h;
      const Range rows(top, s.kernel_h, s.in_h);
      const float* pixels = in + (top * s.in_w - s.pad_w) * s.batch + b;
      float* row = out + h * s.out_w * s.batch + b;
      const auto border = [&](int64_t c) {
        const Range columns(c * s.stride - s.pad_w, s.kernel_w, s.in_w);
        tile<kMaps, 1>(s, pixels + c * step, weight, bias, row + c * s.batch, rows, columns);
      };
      int64_t c = 0;
      for (; c < inside; ++c) border(c);
      for (; c + kColumns <= outside; c += kColumns)
        tile<kMaps, kColumns>(s, pixels + c * step, weight, bias, row + c * s.batch, rows, whole);
      for (; c + 2 <= outside; c += 2)
        tile<kMaps, 2>(s, pixels + c * step, weight, bias, row + c * s.batch, rows, whole);
      for (; c < s.out_w; ++c) border(c);
    }
}

// Computes all maps. `weight` (maps, inputs, kernel_h, kernel_w) is addressed by strides. `flipped` rotates the kernels
// by 180 degrees.
void correlate(const Shape& s, const float* in, const float* weight, int64_t map_stride, int64_t input_stride,
               bool flipped, const float* bias, float* out) {
  const int64_t kernel = s.kernel_h * s.kernel_w;
  std::vector<float> packed(8 * s.inputs * kernel);
  for (int64_t m = 0; m < s.maps;) {
    const int64_t left = s.maps - m;
    // Two blocks of at most 6 maps are faster than one of 8 and a small rest.
    const int64_t count = left >= 8 && (left < 9 || left > 12) ? 8 : std::min<int64_t>(left, 6);
    for (int64_t i = 0; i < s.inputs; ++i)
      for (int64_t k = 0; k < kernel; ++k)
        for (int64_t j = 0; j < count; ++j)
          packed[(i * kernel + k) * count + j] =
              weight[(m + j) * map_stride + i * input_stride + (flipped ? kernel - 1 - k : k)];
    const float* offsets = bias ? bias + m : nullptr;
    float* to = out + m * s.out_h * s.out_w * s.batch;
    switch (count) {
      case 1: correlate_maps<1>(s, in, packed.data(), offsets, to); break;
      case 2: correlate_maps<2>(s, in, packed.data(), offsets, to); break;
      case 3: correlate_maps<3>(s, in, packed.data(), offsets, to); break;
      case 4: correlate_maps<4>(s, in, packed.data(), offsets, to); break;
      case 5: correlate_maps<5>(s, in, packed.data(), offsets, to); break;
      case 6: correlate_maps<6>(s, in, packed.data(), offsets, to); break;
      default: correlate_maps<8>(s, in, packed.data(), offsets, to);
    }
    m += count;
  }
}

// Computes the gradient of `kMaps` x `kTaps` weights that share an input and a row of the kernel.
template <int kMaps, int kTaps>
inline void weight_tile(const Shape& s, const float* in, const float* gradient, float* out) {
  const int64_t map = s.out_h * s.out_w * s.batch;
  Lanes sums[kMaps][kTaps];
  for (auto& row : sums)
    for (auto& sum : row) sum = Lanes{};
  for (int64_t h = 0; h < s.out_h; ++h) {
    const float* pixels = in + h * s.stride * s.in_w * s.batch;
    const float* errors = gradient + h * s.out_w * s.batch;
    for (int64_t w = 0; w < s.out_w; ++w)
      for (int64_t b = 0; b < s.batch; b += kLanes) {
        Lanes values[kTaps];
#pragma GCC unroll 8
        for (int k = 0; k < kTaps; ++k) values[k] = load(pixels + (w * s.stride + k) * s.batch + b);
#pragma GCC unroll 8
        for (int m = 0; m < kMaps; ++m) {
          const Lanes error = load(errors + m * map + w * s.batch + b);
#pragma GCC unroll 8
          for (int k = 0; k < kTaps; ++k) sums[m][k] += error * values[k];
        }
      }
  }
  for (int m = 0; m < kMaps; ++m)
    for (int k = 0; k < kTaps; ++k) {
      float sum = 0;
      for (int lane = 0; lane < kLanes; ++lane) sum += sums[m][k][lane];
      out[m * s.inputs * s.kernel_h * s.kernel_w + k] = sum;
    }
}

template <int kTaps>
void weight_maps(const Shape& s, const float* in, const float* gradient, float* out) {
  const int64_t map = s.out_h * s.out_w * s.batch, weights = s.inputs * s.kernel_h * s.kernel_w;
  int64_t m = 0;
  for (; m + 4 <= s.maps; m += 4) weight_tile<4, kTaps>(s, in, gradient + m * map, out + m * weights);
  for (; m + 3 <= s.maps; m += 3) weight_tile<3, kTaps>(s, in, gradient + m * map, out + m * weights);
  for (; m < s.maps; ++m) weight_tile<1, kTaps>(s, in, gradient + m * map, out + m * weights);
}

void weight_gradient(const Shape& s, const float* in, const float* gradient, float* out) {
  for (int64_t i = 0; i < s.inputs; ++i)
    for (int64_t kh = 0; kh < s.kernel_h; ++kh)
      for (int64_t kw = 0; kw < s.kernel_w;) {
        const float* pixels = in + ((i * s.in_h + kh) * s.in_w + kw) * s.batch;
        float* to = out + (i * s.kernel_h + kh) * s.kernel_w + kw;
        const int64_t left = s.kernel_w - kw;
        if (left >= 5) {
          weight_maps<5>(s, pixels, gradient, to);
          kw += 5;
        } else if (left >= 3) {
          weight_maps<3>(s, pixels, gradient, to);
          kw += 3;
        } else {
          weight_maps<1>(s, pixels, gradient, to);
          kw += 1;
        }
      }
}

// Returns (C, H, W, B) with `padding` rows and columns of zeros on each side.
Tensor padded(const Tensor& images, int64_t padding) {
  if (padding == 0) return images;
  const int64_t height = images.size(1), width = images.size(2);
  Tensor result =
      at::zeros({images.size(0), height + 2 * padding, width + 2 * padding, images.size(3)}, images.options());
  result.narrow(1, padding, height).narrow(2, padding, width).copy_(images);
  return result;
}

// Returns the shape of a convolution of `in` (C, H, W, B).
Shape shape_of(const Tensor& in, const Tensor& weight, int64_t stride, int64_t padding) {
  const int64_t in_h = in.size(1), in_w = in.size(2), kernel_h = weight.size(2), kernel_w = weight.size(3);
  return Shape{in.size(3),
               in.size(0),
               weight.size(0),
               kernel_h,
               kernel_w,
               in_h,
               in_w,
               (in_h + 2 * padding - kernel_h) / stride + 1,
               (in_w + 2 * padding - kernel_w) / stride + 1,
               stride,
               padding,
               padding};
}

// Equals aten::convolution. The batch is innermost in memory and a multiple of 16 images.
Tensor convolution(const Tensor& images, const Tensor& weight, const std::optional<Tensor>& bias, int64_t stride,
                   int64_t padding) {
  check_convolution(images, weight);
  const Tensor in = batch_last(images), factors = weight.contiguous();
  const Tensor offsets = bias ? bias->contiguous() : Tensor();
  const Shape s = shape_of(in, weight, stride, padding);
  Tensor out = at::empty({s.maps, s.out_h, s.out_w, s.batch}, images.options());
  const int64_t kernel = s.kernel_h * s.kernel_w;
  correlate(s, in.const_data_ptr<float>(), factors.const_data_ptr<float>(), s.inputs * kernel, kernel, false,
            bias ? offsets.const_data_ptr<float>() : nullptr, out.mutable_data_ptr<float>());
  return out.permute({3, 0, 1, 2});
}

// Returns the gradients of the images, the weight and the bias. The gradient of the images requires stride 1, and is
// empty unless `needs_images`.
std::tuple<Tensor, Tensor, Tensor> convolution_backward(const Tensor& gradient, const Tensor& images,
                                                        const Tensor& weight, int64_t stride, int64_t padding,
                                                        bool needs_images) {
  check_convolution(images, weight);
  const Tensor in = padded(batch_last(images), padding), errors = batch_last(gradient), factors = weight.contiguous();
  const Shape s = shape_of(in, weight, stride, 0);
  const int64_t kernel = s.kernel_h * s.kernel_w;
  Tensor gradient_of_weight = at::empty({s.maps, s.inputs, s.kernel_h, s.kernel_w}, weight.options());
  weight_gradient(s, in.const_data_ptr<float>(), errors.const_data_ptr<float>(),
                  gradient_of_weight.mutable_data_ptr<float>());
  Tensor gradient_of_images = at::empty({0}, images.options());
  if (needs_images) {
    TORCH_CHECK(stride == 1, "stride ", stride, ": only 1 has a gradient of the images");
    const int64_t height = images.size(2), width = images.size(3);
    const Shape back{s.batch,  s.maps, s.inputs, s.kernel_h,   s.kernel_w, s.out_h,
                     s.out_w,  height, width,    1,            s.kernel_h - 1 - padding, s.kernel_w - 1 - padding};
    Tensor out = at::empty({s.inputs, height, width, s.batch}, images.options());
    correlate(back, errors.const_data_ptr<float>(), factors.const_data_ptr<float>(), kernel, s.inputs * kernel, true,
              nullptr, out.mutable_data_ptr<float>());
    gradient_of_images = out.permute({3, 0, 1, 2});
  }
  return {gradient_of_images, gradient_of_weight, errors.sum({1, 2, 3})};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hpo, library) {
  library.def("convolution(Tensor images, Tensor weight, Tensor? bias, int stride, int padding) -> Tensor");
  library.def(
      "convolution_backward(Tensor gradient, Tensor images, Tensor weight, int stride, int padding, bool needs_images)"
      " -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(hpo, CPU, library) {
  library.impl("convolution", convolution);
  library.impl("convolution_backward", convolution_backward);
}
