// Vectors of the machine's own width: load, widen, select, convert. With dispatch.cpp the only place that knows an
// instruction set; to port the kernels to another one, add a branch here. Everything is static and always inlined, so that an
// object compiled for an instruction set exports nothing from here that the linker could keep for every machine.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "dtype.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define TENSOMETER_INLINE static inline __attribute__((always_inline))

namespace tensometer {

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
inline constexpr int vector_bytes = 64, vector_registers = 32;
#elif defined(__AVX2__)
inline constexpr int vector_bytes = 32, vector_registers = 16;
#elif defined(__aarch64__)
inline constexpr int vector_bytes = 16, vector_registers = 32;
#else
inline constexpr int vector_bytes = 16, vector_registers = 16;
#endif

template <class T, int bytes = vector_bytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(bytes)));
};
using VFloat = VectorOf<float>::type;
using VDouble = VectorOf<double>::type;
using VInt32 = VectorOf<std::int32_t>::type;
using VInt64 = VectorOf<std::int64_t>::type;
using VUInt32 = VectorOf<std::uint32_t>::type;
using VUInt64 = VectorOf<std::uint64_t>::type;

// The vector of a lane type, its mask (all bits set or none) and how many lanes it holds.
template <class Lane>
struct Simd;
template <>
struct Simd<float> {
  using Vector = VFloat;
  using Mask = VInt32;
  using Bits = VUInt32;
  using Word = std::uint32_t;
  static constexpr int lanes = vector_bytes / 4;
  static constexpr std::uint32_t magnitude_bits = 0x7fffffffu, infinity_bits = 0x7f800000u;
};
template <>
struct Simd<double> {
  using Vector = VDouble;
  using Mask = VInt64;
  using Bits = VUInt64;
  using Word = std::uint64_t;
  static constexpr int lanes = vector_bytes / 8;
  static constexpr std::uint64_t magnitude_bits = 0x7fffffffffffffffull, infinity_bits = 0x7ff0000000000000ull;
};

template <class V>
TENSOMETER_INLINE V load(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
TENSOMETER_INLINE void store(void* p, V v) {
  std::memcpy(p, &v, sizeof v);
}

template <class To, class From>
TENSOMETER_INLINE To bits_of(From v) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &v, sizeof to);
  return to;
}

template <class V, class Scalar>
TENSOMETER_INLINE V broadcast(Scalar x) {
  return x - V{};  // x - 0 keeps the sign of a zero, which 0 + x does not
}

template <class V, class M>
TENSOMETER_INLINE V select(M mask, V yes, V no) {
  return mask ? yes : no;
}

template <class Lane>
TENSOMETER_INLINE typename Simd<Lane>::Vector magnitude(typename Simd<Lane>::Vector v) {
  using S = Simd<Lane>;
  return bits_of<typename S::Vector>(bits_of<typename S::Bits>(v) & S::magnitude_bits);
}

// The smaller and the larger, by value; for finite operands only.
#if defined(__AVX512F__) && defined(__AVX512DQ__)
TENSOMETER_INLINE VFloat lower(VFloat a, VFloat b) { return (VFloat)_mm512_min_ps((__m512)a, (__m512)b); }
TENSOMETER_INLINE VFloat upper(VFloat a, VFloat b) { return (VFloat)_mm512_max_ps((__m512)a, (__m512)b); }
TENSOMETER_INLINE VDouble lower(VDouble a, VDouble b) { return (VDouble)_mm512_min_pd((__m512d)a, (__m512d)b); }
TENSOMETER_INLINE VDouble upper(VDouble a, VDouble b) { return (VDouble)_mm512_max_pd((__m512d)a, (__m512d)b); }
#elif defined(__AVX2__)
TENSOMETER_INLINE VFloat lower(VFloat a, VFloat b) { return (VFloat)_mm256_min_ps((__m256)a, (__m256)b); }
TENSOMETER_INLINE VFloat upper(VFloat a, VFloat b) { return (VFloat)_mm256_max_ps((__m256)a, (__m256)b); }
TENSOMETER_INLINE VDouble lower(VDouble a, VDouble b) { return (VDouble)_mm256_min_pd((__m256d)a, (__m256d)b); }
TENSOMETER_INLINE VDouble upper(VDouble a, VDouble b) { return (VDouble)_mm256_max_pd((__m256d)a, (__m256d)b); }
#elif defined(__SSE2__)
TENSOMETER_INLINE VFloat lower(VFloat a, VFloat b) { return (VFloat)_mm_min_ps((__m128)a, (__m128)b); }
TENSOMETER_INLINE VFloat upper(VFloat a, VFloat b) { return (VFloat)_mm_max_ps((__m128)a, (__m128)b); }
TENSOMETER_INLINE VDouble lower(VDouble a, VDouble b) { return (VDouble)_mm_min_pd((__m128d)a, (__m128d)b); }
TENSOMETER_INLINE VDouble upper(VDouble a, VDouble b) { return (VDouble)_mm_max_pd((__m128d)a, (__m128d)b); }
#else
TENSOMETER_INLINE VFloat lower(VFloat a, VFloat b) { return (VFloat)vminq_f32((float32x4_t)a, (float32x4_t)b); }
TENSOMETER_INLINE VFloat upper(VFloat a, VFloat b) { return (VFloat)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
TENSOMETER_INLINE VDouble lower(VDouble a, VDouble b) { return (VDouble)vminq_f64((float64x2_t)a, (float64x2_t)b); }
TENSOMETER_INLINE VDouble upper(VDouble a, VDouble b) { return (VDouble)vmaxq_f64((float64x2_t)a, (float64x2_t)b); }
#endif

// Counters, a lane each, less one where v is zero, and where v is above zero. AVX-512 subtracts under a mask, where a
// compiler would make vectors of the masks first. Elsewhere an integer comparison tells a positive number (no NaN is
// asked here): it runs on other ports than the minimum, the maximum and the comparison with zero, which bound the loop.
#if defined(__AVX512F__) && defined(__AVX512DQ__)
TENSOMETER_INLINE VInt32 count_zeros(VInt32 n, VFloat v) {
  const __mmask16 hit = _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_EQ_OQ);
  return (VInt32)_mm512_mask_sub_epi32((__m512i)n, hit, (__m512i)n, _mm512_set1_epi32(1));
}
TENSOMETER_INLINE VInt64 count_zeros(VInt64 n, VDouble v) {
  const __mmask8 hit = _mm512_cmp_pd_mask((__m512d)v, _mm512_setzero_pd(), _CMP_EQ_OQ);
  return (VInt64)_mm512_mask_sub_epi64((__m512i)n, hit, (__m512i)n, _mm512_set1_epi64(1));
}
TENSOMETER_INLINE VInt32 count_positives(VInt32 n, VFloat v) {
  const __mmask16 hit = _mm512_cmpgt_epi32_mask((__m512i)v, _mm512_setzero_si512());
  return (VInt32)_mm512_mask_sub_epi32((__m512i)n, hit, (__m512i)n, _mm512_set1_epi32(1));
}
TENSOMETER_INLINE VInt64 count_positives(VInt64 n, VDouble v) {
  const __mmask8 hit = _mm512_cmpgt_epi64_mask((__m512i)v, _mm512_setzero_si512());
  return (VInt64)_mm512_mask_sub_epi64((__m512i)n, hit, (__m512i)n, _mm512_set1_epi64(1));
}
#else
TENSOMETER_INLINE VInt32 count_zeros(VInt32 n, VFloat v) { return n + (VInt32)(v == 0); }
TENSOMETER_INLINE VInt64 count_zeros(VInt64 n, VDouble v) { return n + (VInt64)(v == 0); }
TENSOMETER_INLINE VInt32 count_positives(VInt32 n, VFloat v) { return n + (VInt32)(bits_of<VInt32>(v) > 0); }
#if defined(__SSE2__) && !defined(__SSE4_2__)
TENSOMETER_INLINE VInt64 count_positives(VInt64 n, VDouble v) { return n + (VInt64)(v > 0); }  // no 64-bit comparison
#else
TENSOMETER_INLINE VInt64 count_positives(VInt64 n, VDouble v) { return n + (VInt64)(bits_of<VInt64>(v) > 0); }
#endif
#endif

// Half a vector of float32 as a vector of float64 (GCC 12 sends __builtin_convertvector through the stack here).
TENSOMETER_INLINE VDouble widen_half(const float* p) {
#if defined(__AVX512F__)
  return (VDouble)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif defined(__AVX2__)
  return (VDouble)_mm256_cvtps_pd(_mm_loadu_ps(p));
#elif defined(__SSE2__)
  return (VDouble)_mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  return (VDouble)vcvt_f64_f32(vld1_f32(p));
#endif
}

// A vector's worth of 16-bit words, zero-extended to 32 bits.
TENSOMETER_INLINE VUInt32 load_words(const void* p) {
#if defined(__AVX512F__)
  return (VUInt32)_mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
#elif defined(__AVX2__)
  return (VUInt32)_mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
#elif defined(__SSE2__)
  return (VUInt32)_mm_unpacklo_epi16(_mm_loadl_epi64(static_cast<const __m128i*>(p)), _mm_setzero_si128());
#else
  return (VUInt32)vmovl_u16(vld1_u16(static_cast<const std::uint16_t*>(p)));
#endif
}

// One vector of elements as lanes, exactly.
TENSOMETER_INLINE VFloat load_lanes(const float* p) { return load<VFloat>(p); }
TENSOMETER_INLINE VFloat load_lanes(const bfloat16* p) { return bits_of<VFloat>(load_words(p) << 16); }
TENSOMETER_INLINE VFloat load_lanes(const std::uint16_t* p) {
  return __builtin_convertvector(bits_of<VInt32>(load_words(p)), VFloat);
}
TENSOMETER_INLINE VFloat load_lanes(const std::int16_t* p) {
  return __builtin_convertvector(bits_of<VInt32>(load_words(p) << 16) >> 16, VFloat);
}
TENSOMETER_INLINE VFloat load_lanes(const float16* p) {
  // The empty assembly keeps Clang 14 from looking through the conversion and comparing halves one element at a time, which
  // takes ten times as long as the whole sweep.
#if defined(__AVX512F__)
  VFloat v = (VFloat)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  __asm__("" : "+v"(v));
  return v;
#elif defined(__F16C__)
  VFloat v = (VFloat)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  __asm__("" : "+x"(v));
  return v;
#elif defined(__aarch64__)
  VFloat v = (VFloat)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(p))));
  __asm__("" : "+w"(v));
  return v;
#else
  const VUInt32 word = load_words(p), shifted = (word & 0x7fffu) << 13;
  const VInt32 exponent = bits_of<VInt32>(shifted & 0x0f800000u);
  // Sub-normals: with an exponent put in front, subtracting that power of two leaves the value, exactly.
  const VFloat small = bits_of<VFloat>(shifted + (113u << 23)) - 0x1p-14f;
  const VUInt32 normal = shifted + (112u << 23);
  const VUInt32 wide = normal + (bits_of<VUInt32>(exponent == 0x0f800000) & (112u << 23));
  const VUInt32 value = select(exponent == 0, bits_of<VUInt32>(small), wide);
  return bits_of<VFloat>(value | (word & 0x8000u) << 16);
#endif
}
TENSOMETER_INLINE VDouble load_lanes(const double* p) { return load<VDouble>(p); }
template <class Integer>
TENSOMETER_INLINE VDouble load_lanes(const Integer* p) {
  typename VectorOf<Integer, static_cast<int>(sizeof(Integer)) * Simd<double>::lanes>::type v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, VDouble);
}

// The first or the second of two vectors of elements, in any order of lanes, and the way back to the order of the elements. A
// 32-bit word holds two bfloat16, each one instruction away from its lane: the first vector takes the even elements, the
// second the odd ones.
template <class T>
TENSOMETER_INLINE auto load_of_pair(const T* p, int which) {
  using V = decltype(load_lanes(p));
  return load_lanes(p + which * static_cast<int>(sizeof(V) / sizeof(V{}[0])));
}
TENSOMETER_INLINE VFloat load_of_pair(const bfloat16* p, int which) {
  const VUInt32 words = load<VUInt32>(p);
  return bits_of<VFloat>(which == 0 ? words << 16 : words & 0xffff0000u);
}
template <int from, class V, std::size_t... i>
TENSOMETER_INLINE V interleaved(V a, V b, std::index_sequence<i...>) {
  return __builtin_shufflevector(a, b, ((i % 2 != 0 ? sizeof...(i) : 0) + from + i / 2)...);
}
template <class T, class Lane, class V>
TENSOMETER_INLINE void store_pair(Lane* out, V first, V second) {
  constexpr int lanes = Simd<Lane>::lanes;
  constexpr bool mixed = std::is_same_v<T, bfloat16>;
  constexpr std::make_index_sequence<lanes> each;
  store(out, mixed ? interleaved<0>(first, second, each) : first);
  store(out + lanes, mixed ? interleaved<lanes / 2>(first, second, each) : second);
}

// Widens `count` elements to lanes.
template <class Lane, class T>
TENSOMETER_INLINE void widen_block(const T* x, std::uint32_t count, Lane* lanes) {
  constexpr std::uint32_t width = Simd<Lane>::lanes;
  std::uint32_t i = 0;
  for (; i + width <= count; i += width) store(lanes + i, load_lanes(x + i));
  for (; i < count; ++i) {
    T element;
    std::memcpy(&element, x + i, sizeof element);
    lanes[i] = static_cast<Lane>(widen(element));
  }
}

}  // namespace tensometer
