// Convolutions of 3x3 and 5x5 by Winograd's minimal filtering (Lavin, Gray (2015), "Fast Algorithms for Convolutional
// Neural Networks", arXiv 1509.09308), with stride 1 and the batch innermost.
//
// A tile of 6x6 pixels gives 4x4 places of a map by a kernel of 3x3, or 2x2 by one of 5x5; one of 7x7 gives 5x5, or
// 3x3. With B, G and A of their section 4, y = A^T [(G g G^T) * (B^T d B)] A, where * multiplies point by point: 36
// multiplications instead of 144, or 100, and 49 instead of 225. Sums over inputs, maps or the batch are taken between
// the transforms, so at each of the points they are a product of two matrices. One thread; what a sum is made of, and
// in which order, depends on the shapes and the tile alone.

#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "lanes.h"

namespace {

using at::Tensor;

constexpr int kRows = 8;  // of a block of a product, each in `kColumns` vectors

// Floats between what belongs to two points, lest all of it falls into the same sets of the cache.
constexpr int64_t kGap = 48;

// Tiles of 16 images that are transformed at once: as many as a product takes, and so few that what becomes of them
// leaves room in a cache that cores share.
constexpr int64_t kAtOnce = 3;

template <int kTile, int kKernel>
constexpr int kOut = kTile + 1 - kKernel;

// The transforms in one dimension, of vectors `step` apart. The points are 0, 1, -1, 2, -2, with a tile of 7 also 1/2,
// and infinity, the last one; a result of a tile of 7 is off by half as much again.
constexpr float kFinite[] = {0, 1, -1, 2, -2, 0.5f};
constexpr float kPowers[] = {1, 2, 4, 8, 16};  // of 2

// B^T: pixels to points.
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

// A: gradients at places of a map to points.
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

// A^T: points to places of a map.
template <int kTile, int kKernel>
inline void to_places(const Lanes* m, int step, Lanes* to, int to_step) {
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

// G: the factor of a weight, by its place in the kernel, at a point.
template <int kTile, int kKernel>
struct Shares {
  float of[kTile][kKernel] = {};
  constexpr Shares() {
    for (int point = 0; point < kTile - 1; ++point) {
      float share = 1;
      for (int other = 0; other < kTile - 1; ++other)
        if (other != point) share /= kFinite[point] - kFinite[other];
      for (int place = 0; place < kKernel; ++place, share *= kFinite[point]) of[point][place] = share;
    }
    of[kTile - 1][kKernel - 1] = 1;
  }
};

// Images in blocks of 16, each of which has `vectors` of `depth` maps, 16 values at a pixel; the steps are in floats.
struct Images {
  const float* data;
  int64_t height, width, pixel_step, blocks, block_step, vectors, vector_step, depth, depth_step;

  // (C, H, W, B): the 16 values are those of the images of a block.
  static Images apart(const Tensor& t) {
    return {t.const_data_ptr<float>(), t.size(1), t.size(2), t.size(3), t.size(3) / kLanes, kLanes, 1, 0, t.size(0),
            t.stride(0)};
  }

  // (B, H, W, C), with C a multiple of 16: they are those of 16 channels.
  static Images together(const Tensor& t) {
    return {t.const_data_ptr<float>(), t.size(1), t.size(2), t.size(3), t.size(0) / kLanes, kLanes * t.stride(0),
            t.size(3) / kLanes, kLanes, kLanes, t.stride(0)};
  }
};

// The tiles of all blocks of images, a block after another: `side` by `side` places of a map each.
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

// The tiles `first` to `last`, transformed: (points, tiles, vectors, depth, 16), the points `gap` apart.
template <class Transform>
void transform(const Images& images, int64_t padding, const Tiles& tiles, int64_t first, int64_t last, float* out,
               int64_t gap) {
  constexpr int kTile = Transform::kSide, kSize = Transform::kSize, kPoints = kTile * kTile;
  static const float zeros[kLanes] = {};
  for (int64_t t = first; t < last; ++t) {
    int64_t places[kSize * kSize];
    for (int y = 0; y < kSize; ++y)
      for (int x = 0; x < kSize; ++x) {
        const int64_t h = tiles.top(t) - padding + y, w = tiles.left(t) - padding + x;
        const bool inside = h >= 0 && h < images.height && w >= 0 && w < images.width;
        places[y * kSize + x] = inside ? (h * images.width + w) * images.pixel_step : -1;
      }
    const float* block = images.data + tiles.block(t) * images.block_step;
    for (int64_t v = 0; v < images.vectors; ++v)
      for (int64_t d = 0; d < images.depth; ++d, out += kLanes) {
        const float* from = block + v * images.vector_step + d * images.depth_step;
        Lanes pixels[kSize * kSize], columns[kTile * kSize], points[kPoints];
#pragma GCC unroll 49
        for (int i = 0; i < kSize * kSize; ++i) pixels[i] = load(places[i] < 0 ? zeros : from + places[i]);
#pragma GCC unroll 49
        for (int i = 0; i < kSize * kSize; ++i) __builtin_prefetch(from + images.depth_step + places[i]);
#pragma GCC unroll 7
        for (int x = 0; x < kSize; ++x) Transform::apply(pixels + x, kSize, columns + x, kSize);
#pragma GCC unroll 7
        for (int y = 0; y < kTile; ++y) Transform::apply(columns + y * kSize, 1, points + y * kTile, 1);
#pragma GCC unroll 49
        for (int p = 0; p < kPoints; ++p) store(out + p * gap, points[p]);
      }
  }
}

// G g G^T of each kernel, as (points, blocks of 8 maps, inputs, 8), the points `gap` apart; maps that fill up the last
// block are zero. `weight` (maps, inputs, kernel, kernel) by strides; `flipped`: turned by half a circle.
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

// Adds a product: `factors` (depth, 8), `factor_step` apart, with `values` (columns, depth, 16), `column_step` apart.
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

// `factors` (blocks, depth, 8) with `values` (kColumns, depth, 16) to (kColumns, blocks * 8, 16).
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

// A^T m A of the tiles `first` to `last`: `points` (points, tiles, depth, 16), where depth >= maps, to their places in
// `out` (maps, height, width, B).
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
      Lanes tile[kPoints], half[kSide * kTile], places[kSide * kSide];
#pragma GCC unroll 49
      for (int p = 0; p < kPoints; ++p) tile[p] = load(points + m * kLanes + p * gap);
#pragma GCC unroll 7
      for (int x = 0; x < kTile; ++x) to_places<kTile, kKernel>(tile + x, kTile, half + x, kTile);
#pragma GCC unroll 5
      for (int y = 0; y < kSide; ++y) to_places<kTile, kKernel>(half + y * kTile, 1, places + y * kSide, 1);
      const Lanes offset = all(bias ? bias[m] : 0.0f);
      const auto write = [&](int y, int x) { store(to + (y * width + x) * batch, places[y * kSide + x] + offset); };
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

// `images` (inputs, H, W, B), correlated with kernels of `weight` (maps, inputs, kernel, kernel); `turned`: as for the
// gradient of images, with maps and inputs exchanged and kernels turned by half a circle.
template <int kTile, int kKernel>
Tensor correlate(const Tensor& images, const Tensor& weight, bool turned, const float* bias, int64_t padding,
                 int64_t height, int64_t width) {
  constexpr int kPoints = kTile * kTile;
  const Images in = Images::apart(images);
  const int64_t maps = weight.size(turned ? 1 : 0), inputs = in.depth, blocks = (maps + kRows - 1) / kRows;
  const Tiles tiles(kOut<kTile, kKernel>, height, width, in.blocks);
  const int64_t depth = blocks * kRows;
  const int64_t factor_gap = depth * inputs + kGap, in_gap = tiles.at_once * inputs * kLanes + kGap,
                out_gap = tiles.at_once * depth * kLanes + kGap;
  Tensor buffer = at::empty({kPoints * (factor_gap + in_gap + out_gap)}, images.options());
  float* factors = buffer.mutable_data_ptr<float>();
  float* values = factors + kPoints * factor_gap;
  float* points = values + kPoints * in_gap;
  const int64_t kernel = kKernel * kKernel, row = weight.size(1) * kernel;
  transform_weight<kTile, kKernel>(weight.const_data_ptr<float>(), maps, inputs, turned ? kernel : row,
                                   turned ? row : kernel, turned, factors, factor_gap);
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

// Of two vectors, exchanges the lanes of the first whose numbers have the bit `kStep` with those of the second that lack
// it.
template <int kStep, size_t... kLane>
inline void exchange(Lanes& one, Lanes& other, std::index_sequence<kLane...>) {
  const Lanes first = one, second = other;
  one = __builtin_shufflevector(first, second, (kLane & kStep ? kLanes + kLane - kStep : kLane)...);
  other = __builtin_shufflevector(first, second, (kLane & kStep ? kLanes + kLane : kLane + kStep)...);
}

// Turns 16 vectors of 16 about their diagonal.
template <int kStep = kLanes / 2>
inline void transpose(Lanes (&rows)[kLanes]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i)
    if (!(i & kStep)) exchange<kStep>(rows[i], rows[i + kStep], std::make_index_sequence<kLanes>{});
  if constexpr (kStep > 1) transpose<kStep / 2>(rows);
}

// (C, H, W, B) as (B, H, W, C), with channels of zeros up to a multiple of 16.
Tensor turn(const Tensor& images) {
  const int64_t depth = images.size(0), places = images.size(1) * images.size(2), batch = images.size(3);
  const int64_t lanes = (depth + kLanes - 1) / kLanes * kLanes;
  Tensor out = at::empty({batch, images.size(1), images.size(2), lanes}, images.options());
  const float* from = images.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  for (int64_t b = 0; b < batch; b += kLanes)
    for (int64_t c = 0; c < lanes; c += kLanes)
      for (int64_t p = 0; p < places; ++p) {
        Lanes block[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i)
          block[i] = c + i < depth ? load(from + ((c + i) * places + p) * batch + b) : Lanes{};
        transpose(block);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store(to + ((b + i) * places + p) * lanes + c, block[i]);
      }
  return out;
}

// For 8 maps and `kColumns` vectors of inputs, the sum over tiles and their 16 images of `gradients` (tiles, 16, 16),
// of whose lanes 8 are the maps, with `pixels` (tiles, columns, 16, 16); added to `out` unless `fresh`.
template <int kColumns>
void accumulate(int64_t tiles, const float* gradients, int64_t gradient_tile, const float* pixels, int64_t pixel_tile,
                bool fresh, float* out, int64_t out_row) {
  Lanes sums[kRows][kColumns] = {};
  for (int64_t t = 0; t < tiles; ++t)
    multiply(kLanes, gradients + t * gradient_tile, kLanes, pixels + t * pixel_tile, kLanes * kLanes, sums);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
    for (int c = 0; c < kColumns; ++c) {
      float* to = out + r * out_row + c * kLanes;
      store(to, fresh ? sums[r][c] : load(to) + sums[r][c]);
    }
}

// G^T s G of the sums at all points, (points, maps, inputs), the points `gap` apart and the maps `row`.
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

// The gradient of the weight, of `images` (inputs, H, W, B) and `gradient` (maps, H, W, B): the derivative of what is
// above, G^T [(B^T d B) * (A e A^T)] G, summed over tiles and batch. Both are turned first, so that a vector holds
// weights, whose sums need not be added up lane by lane.
template <int kTile, int kKernel>
Tensor weight_gradient(const Tensor& images, const Tensor& gradient, int64_t padding) {
  constexpr int kPoints = kTile * kTile;
  const Tensor turned_images = turn(images), turned_gradient = turn(gradient);
  const Images in = Images::together(turned_images), errors = Images::together(turned_gradient);
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

// `run`, a function template of the tile and the kernel.
template <class Run>
auto of_sizes(int64_t tile, const Tensor& weight, const Run& run) {
  const int64_t height = weight.size(2), width = weight.size(3);
  TORCH_CHECK(height == width && (height == 3 || height == 5), "a kernel of ", height, "x", width,
              " is neither 3x3 nor 5x5");
  TORCH_CHECK(tile == 6 || tile == 7, "a tile of ", tile, "x", tile, " is neither 6x6 nor 7x7");
  if (tile == 6) return height == 3 ? run.template operator()<6, 3>() : run.template operator()<6, 5>();
  return height == 3 ? run.template operator()<7, 3>() : run.template operator()<7, 5>();
}

// As `convolution` of convolution.cpp, with stride 1, by tiles of that height and width.
Tensor winograd(const Tensor& images, const Tensor& weight, const std::optional<Tensor>& bias, int64_t padding,
                int64_t tile) {
  check_convolution(images, weight);
  const Tensor in = batch_last(images), factors = weight.contiguous();
  const Tensor offsets = bias ? bias->contiguous() : Tensor();
  const float* shift = bias ? offsets.const_data_ptr<float>() : nullptr;
  const int64_t wider = 2 * padding + 1 - weight.size(2), height = in.size(1) + wider, width = in.size(2) + wider;
  const auto run = [&]<int kTile, int kKernel> {
    return correlate<kTile, kKernel>(in, factors, false, shift, padding, height, width);
  };
  return of_sizes(tile, weight, run).permute({3, 0, 1, 2});
}

// As `convolution_backward` of convolution.cpp, with stride 1.
std::tuple<Tensor, Tensor, Tensor> winograd_backward(const Tensor& gradient, const Tensor& images, const Tensor& weight,
                                                     int64_t padding, int64_t tile, bool of_images) {
  check_convolution(images, weight);
  const Tensor in = batch_last(images), errors = batch_last(gradient), factors = weight.contiguous();
  const int64_t outside = weight.size(2) - 1 - padding;
  Tensor of_input = at::empty({0}, images.options());
  const auto run = [&]<int kTile, int kKernel> {
    if (of_images)
      of_input = correlate<kTile, kKernel>(errors, factors, true, nullptr, outside, in.size(1), in.size(2))
                     .permute({3, 0, 1, 2});
    return weight_gradient<kTile, kKernel>(in, errors, padding);
  };
  const Tensor of_weight = of_sizes(tile, weight, run);
  return {of_input, of_weight, errors.sum({1, 2, 3})};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hpo, library) {
  library.def("winograd(Tensor images, Tensor weight, Tensor? bias, int padding, int tile) -> Tensor");
  library.def(
      "winograd_backward(Tensor gradient, Tensor images, Tensor weight, int padding, int tile, bool of_images)"
      " -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(hpo, CPU, library) {
  library.impl("winograd", winograd);
  library.impl("winograd_backward", winograd_backward);
}
