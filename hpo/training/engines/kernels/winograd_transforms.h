// The transforms of Winograd's minimal filtering, from and to images with the batch innermost. winograd.cpp says how they
// are used.

#pragma once

#include <algorithm>

#include "lanes.h"

namespace {

using at::Tensor;

constexpr int kRows = 8;  // rows of a block of a matrix product; each row is `kColumns` vectors

// Floats of padding between the data of two points. Without it the points would share the same sets of the cache.
constexpr int64_t kGap = 48;

// Tiles of 16 images that are transformed at once. A product takes this many columns. More would fill a cache that the
// cores share.
constexpr int64_t kAtOnce = 3;

template <int kTile, int kKernel>
constexpr int kOut = kTile + 1 - kKernel;

// The transforms in one dimension, of vectors `step` apart. The points are 0, 1, -1, 2 and -2, for a tile of 7 also
// 1/2, and finally infinity. The rounding error of a tile of 7 is 1.5 times that of a tile of 6.
constexpr float kFinite[] = {0, 1, -1, 2, -2, 0.5f};
constexpr float kPowers[] = {1, 2, 4, 8, 16};  // powers of 2

// B^T: transforms pixels to points.
template <int kTile>
struct Pixels {
  static constexpr int kSide = kTile, kSize = kTile;
  static inline void apply(const Lanes* d, int step, Lanes* to, int to_step) {
    Lanes e[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i)
      if constexpr (kTile == 7)
        e[i] = d[(i + 1) * step] - 0.5f * d[i * step];
      else
        e[i] = d[i * step];
    const Lanes even = e[4] - 4.0f * e[2], odd = e[3] - 4.0f * e[1], even2 = e[4] - e[2], odd2 = 2.0f * (e[3] - e[1]);
    to[0] = 4.0f * e[0] - 5.0f * e[2] + e[4];
    to[to_step] = even + odd;
    to[2 * to_step] = even - odd;
    to[3 * to_step] = even2 + odd2;
    to[4 * to_step] = even2 - odd2;
    if constexpr (kTile == 7) to[5 * to_step] = 4.0f * d[step] - 5.0f * d[3 * step] + d[5 * step];
    to[(kTile - 1) * to_step] = 4.0f * e[1] - 5.0f * e[3] + e[5];
  }
};

// A: transforms gradients at pixels of a map to points.
template <int kTile, int kKernel>
struct Gradients {
  static constexpr int kSide = kTile, kSize = kOut<kTile, kKernel>;
  static inline void apply(const Lanes* d, int step, Lanes* to, int to_step) {
    Lanes even = d[0], odd = d[step], even2 = d[0], odd2 = 2.0f * d[step], half = d[0] + 0.5f * d[step];
#pragma GCC unroll 3
    for (int i = 2; i < kSize; ++i) {
      const Lanes value = d[i * step];
      (i % 2 ? odd : even) += value;
      (i % 2 ? odd2 : even2) += kPowers[i] * value;
      half += 1 / kPowers[i] * value;
    }
    to[0] = d[0];
    to[to_step] = even + odd;
    to[2 * to_step] = even - odd;
    to[3 * to_step] = even2 + odd2;
    to[4 * to_step] = even2 - odd2;
    if constexpr (kTile == 7) to[5 * to_step] = half;
    to[(kTile - 1) * to_step] = d[(kSize - 1) * step];
  }
};

// A^T: transforms points to pixels of a map.
template <int kTile, int kKernel>
inline void to_map(const Lanes* m, int step, Lanes* to, int to_step) {
  constexpr int kSize = kOut<kTile, kKernel>;
  const Lanes m1 = m[step], m2 = m[2 * step], m3 = m[3 * step], m4 = m[4 * step];
  const Lanes even = m1 + m2, odd = m1 - m2, even2 = m3 + m4, odd2 = m3 - m4;
#pragma GCC unroll 5
  for (int i = 0; i < kSize; ++i) {
    Lanes value = i % 2 ? odd + kPowers[i] * odd2 : even + kPowers[i] * even2;
    if constexpr (kTile == 7) value += 1 / kPowers[i] * m[5 * step];
    if (i == 0) value += m[0];
    if (i == kSize - 1) value += m[(kTile - 1) * step];
    to[i * to_step] = value;
  }
}

// G: the factor of each weight of the kernel at each point.
template <int kTile, int kKernel>
struct Shares {
  float of[kTile][kKernel] = {};
  constexpr Shares() {
    for (int point = 0; point < kTile - 1; ++point) {
      float share = 1;
      for (int other = 0; other < kTile - 1; ++other)
        if (other != point) share /= kFinite[point] - kFinite[other];
      for (int tap = 0; tap < kKernel; ++tap, share *= kFinite[point]) of[point][tap] = share;
    }
    of[kTile - 1][kKernel - 1] = 1;
  }
};

// Images in blocks. A pixel of a block has `vectors` x `depth` vectors of 16 values. The steps are in floats.
struct Images {
  const float* data;
  int64_t height, width, pixel_step, blocks, block_step, vectors, vector_step, depth, depth_step;

  // Views (C, H, W, B): a vector holds one channel of the 16 images of a block.
  static Images of_images(const Tensor& t) {
    return {t.const_data_ptr<float>(), t.size(1), t.size(2), t.size(3), t.size(3) / kLanes, kLanes, 1, 0, t.size(0),
            t.stride(0)};
  }

  // Views (B, H, W, C), with C a multiple of 16: a vector holds 16 channels of one image.
  static Images of_channels(const Tensor& t) {
    return {t.const_data_ptr<float>(), t.size(1), t.size(2), t.size(3), t.size(0) / kLanes, kLanes * t.stride(0),
            t.size(3) / kLanes, kLanes, kLanes, t.stride(0)};
  }
};

// The tiles of all blocks of images, block by block. A tile gives `side` x `side` pixels of a map.
struct Tiles {
  int64_t side, columns, of_block, count, at_once;
  Tiles(int64_t side, int64_t height, int64_t width, int64_t blocks)
      : side(side),
        columns((width + side - 1) / side),
        of_block(columns * ((height + side - 1) / side)),
        count(of_block * blocks),
        at_once(std::min(kAtOnce, count)) {}
  int64_t block(int64_t tile) const { return tile / of_block; }
  int64_t top(int64_t tile) const { return tile % of_block / columns * side; }
  int64_t left(int64_t tile) const { return tile % of_block % columns * side; }
};

// Transforms the tiles [first, last) to (points, tiles, vectors, depth, 16), with the points `gap` apart.
template <class Transform>
void transform(const Images& images, int64_t padding, const Tiles& tiles, int64_t first, int64_t last, float* out,
               int64_t gap) {
  constexpr int kTile = Transform::kSide, kSize = Transform::kSize, kPoints = kTile * kTile;
  static const float zeros[kLanes] = {};
  for (int64_t t = first; t < last; ++t) {
    int64_t offsets[kSize * kSize];  // of the pixels, -1 outside the image
    for (int y = 0; y < kSize; ++y)
      for (int x = 0; x < kSize; ++x) {
        const int64_t h = tiles.top(t) - padding + y, w = tiles.left(t) - padding + x;
        const bool inside = h >= 0 && h < images.height && w >= 0 && w < images.width;
        offsets[y * kSize + x] = inside ? (h * images.width + w) * images.pixel_step : -1;
      }
    const float* block = images.data + tiles.block(t) * images.block_step;
    for (int64_t v = 0; v < images.vectors; ++v)
      for (int64_t d = 0; d < images.depth; ++d, out += kLanes) {
        const float* from = block + v * images.vector_step + d * images.depth_step;
        Lanes pixels[kSize * kSize], columns[kTile * kSize], points[kPoints];
#pragma GCC unroll 49
        for (int i = 0; i < kSize * kSize; ++i) pixels[i] = load(offsets[i] < 0 ? zeros : from + offsets[i]);
#pragma GCC unroll 49
        for (int i = 0; i < kSize * kSize; ++i) __builtin_prefetch(from + images.depth_step + offsets[i]);
#pragma GCC unroll 7
        for (int x = 0; x < kSize; ++x) Transform::apply(pixels + x, kSize, columns + x, kSize);
#pragma GCC unroll 7
        for (int y = 0; y < kTile; ++y) Transform::apply(columns + y * kSize, 1, points + y * kTile, 1);
#pragma GCC unroll 49
        for (int p = 0; p < kPoints; ++p) store(out + p * gap, points[p]);
      }
  }
}

// Computes G g G^T of each kernel as (points, blocks of 8 maps, inputs, 8), with the points `gap` apart. The last block
// is padded with maps of zeros. `weight` (maps, inputs, kernel, kernel) is addressed by strides. `flipped` rotates the
// kernels by 180 degrees.
template <int kTile, int kKernel>
void transform_weight(const float* weight, int64_t maps, int64_t inputs, int64_t map_stride, int64_t input_stride,
                      bool flipped, float* out, int64_t gap) {
  typedef float Row __attribute__((vector_size(4 * kRows), aligned(4)));
  constexpr int kTaps = kKernel * kKernel;
  constexpr Shares<kTile, kKernel> shares;
  for (int64_t first = 0; first < maps; first += kRows)
    for (int64_t i = 0; i < inputs; ++i, out += kRows) {
      Row taps[kTaps] = {}, rows[kTile * kKernel] = {};
      for (int64_t m = first; m < std::min(first + kRows, maps); ++m)
        for (int k = 0; k < kTaps; ++k)
          taps[k][m - first] = weight[m * map_stride + i * input_stride + (flipped ? kTaps - 1 - k : k)];
#pragma GCC unroll 7
      for (int y = 0; y < kTile; ++y)
#pragma GCC unroll 5
        for (int x = 0; x < kKernel; ++x)
#pragma GCC unroll 5
          for (int k = 0; k < kKernel; ++k) rows[y * kKernel + x] += shares.of[y][k] * taps[k * kKernel + x];
#pragma GCC unroll 7
      for (int y = 0; y < kTile; ++y)
#pragma GCC unroll 7
        for (int x = 0; x < kTile; ++x) {
          Row sum{};
#pragma GCC unroll 5
          for (int k = 0; k < kKernel; ++k) sum += shares.of[x][k] * rows[y * kKernel + k];
          *reinterpret_cast<Row*>(out + (y * kTile + x) * gap) = sum;
        }
    }
}

// Computes A^T m A of the tiles [first, last) and writes the pixels to `out` (maps, height, width, B). `points` is
// (points, tiles, depth, 16), where depth >= maps.
template <int kTile, int kKernel>
void restore(const float* points, int64_t gap, int64_t depth, const Tiles& tiles, int64_t first, int64_t last,
             const float* bias, Tensor& out) {
  constexpr int kSide = kOut<kTile, kKernel>, kPoints = kTile * kTile;
  const int64_t maps = out.size(0), height = out.size(1), width = out.size(2), batch = out.size(3);
  float* data = out.mutable_data_ptr<float>();
  for (int64_t t = first; t < last; ++t, points += depth * kLanes) {
    const int64_t top = tiles.top(t), left = tiles.left(t);
    const int64_t rows = std::min<int64_t>(kSide, height - top), columns = std::min<int64_t>(kSide, width - left);
    float* to = data + (top * width + left) * batch + tiles.block(t) * kLanes;
    for (int64_t m = 0; m < maps; ++m, to += height * width * batch) {
      Lanes tile[kPoints], half[kSide * kTile], pixels[kSide * kSide];
#pragma GCC unroll 49
      for (int p = 0; p < kPoints; ++p) tile[p] = load(points + m * kLanes + p * gap);
#pragma GCC unroll 7
      for (int x = 0; x < kTile; ++x) to_map<kTile, kKernel>(tile + x, kTile, half + x, kTile);
#pragma GCC unroll 5
      for (int y = 0; y < kSide; ++y) to_map<kTile, kKernel>(half + y * kTile, 1, pixels + y * kSide, 1);
      const Lanes offset = all(bias ? bias[m] : 0.0f);
      const auto write = [&](int y, int x) { store(to + (y * width + x) * batch, pixels[y * kSide + x] + offset); };
      if (rows == kSide && columns == kSide) {
#pragma GCC unroll 5
        for (int y = 0; y < kSide; ++y)
#pragma GCC unroll 5
          for (int x = 0; x < kSide; ++x) write(y, x);
      } else {
        for (int y = 0; y < rows; ++y)
          for (int x = 0; x < columns; ++x) write(y, x);
      }
    }
  }
}

// Computes G^T s G of the sums at all points (points, maps, inputs), with the points `gap` and the maps `row` apart.
template <int kTile, int kKernel>
Tensor restore_weight(const float* sums, int64_t gap, int64_t row, int64_t maps, int64_t inputs,
                      const at::TensorOptions& options) {
  constexpr int kTaps = kKernel * kKernel;
  constexpr Shares<kTile, kKernel> shares;
  Tensor out = at::empty({maps, inputs, kKernel, kKernel}, options);
  float* to = out.mutable_data_ptr<float>();
  for (int64_t m = 0; m < maps; ++m)
    for (int64_t first = 0; first < inputs; first += kLanes) {
      const float* from = sums + m * row + first;
      Lanes rows[kKernel * kTile] = {}, taps[kTaps] = {};
#pragma GCC unroll 5
      for (int y = 0; y < kKernel; ++y)
#pragma GCC unroll 7
        for (int x = 0; x < kTile; ++x)
#pragma GCC unroll 7
          for (int p = 0; p < kTile; ++p)
            rows[y * kTile + x] += shares.of[p][y] * load(from + (p * kTile + x) * gap);
#pragma GCC unroll 5
      for (int y = 0; y < kKernel; ++y)
#pragma GCC unroll 5
        for (int x = 0; x < kKernel; ++x)
#pragma GCC unroll 7
          for (int p = 0; p < kTile; ++p) taps[y * kKernel + x] += shares.of[p][x] * rows[y * kTile + p];
      for (int64_t i = first; i < std::min(first + kLanes, inputs); ++i)
        for (int k = 0; k < kTaps; ++k) to[(m * inputs + i) * kTaps + k] = taps[k][i - first];
    }
  return out;
}

}  // namespace
