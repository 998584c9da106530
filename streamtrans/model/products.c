/* Vectors and products, for all that is compiled here.

   Law: every sum is taken in one order, whatever stands beside it. A row of many equals the row alone to the last bit.

   Matrices are read in panels of 32 outputs, input by input, each one stream of memory: float32; bfloat16, two inputs
   at a time, widened as it is read, or multiplied as it is by what is rounded to it; or whole numbers, four inputs at a
   time. Vectors are the compiler's own, so this runs wherever it compiles. Two kinds ask for instructions: whole
   numbers for VNNI, of 512 or of 256 bits, whose sums are the same; rounded ones for AVX512-BF16. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

/* Numbers in a vector, as the processor has them, and rows at once, whose sums stay in its registers. */
#if defined(__AVX512F__) && !defined(NARROW) /* which is for tests */
#define LANES 16
enum { ROWS = 8 };
#elif defined(__AVX__)
#define LANES 8
enum { ROWS = 3 };
#else
#define LANES 4
enum { ROWS = 3 };
#endif
enum { PANEL = 32 / LANES };          /* vectors */
enum { FLOAT, HALF, WHOLE, ROUNDED }; /* kinds of numbers: float32, bfloat16, int8, bfloat16 times the same */
enum { SET, GELU, RELU, ADD };        /* what becomes of a product */

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t wholes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef uint8_t octets __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef int32_t packed __attribute__((may_alias)); /* two inputs, or four, of a kind that is narrower */
#define inlined static inline __attribute__((always_inline))

typedef struct {
    const void *weights;    /* (panels, inputs / n, 32, n): n is 1, 2 or 4 by their kind; two panels at a time */
    const float *bias;      /* as the next two, for outputs up to a whole panel */
    const float *step;      /* what a whole number is worth, per output */
    const int32_t *shift;   /* 128 times the sum of an output's weights: inputs are shifted into unsigned bytes */
    int32_t kind, inputs, outputs;
} Linear;

typedef struct { const float *weight, *bias; } Norm; /* weight NULL: there is none */

inlined lanes load(const void *from, long at, int kind) {
    if (kind == FLOAT) return *(const lanes *)((const float *)from + at);
    return (lanes)(__builtin_convertvector(*(const halves *)((const uint16_t *)from + at), wholes) << 16);
}

inlined void store(void *to, long at, int kind, lanes x) {
    if (kind == FLOAT) {
        *(lanes *)((float *)to + at) = x;
        return;
    }
    wholes bits = (wholes)x; /* to the nearest, of two the even one */
    bits += 0x7fff + ((bits >> 16) & 1);
    *(halves *)((uint16_t *)to + at) = __builtin_convertvector((bits >> 16) & 0xffff, halves);
}

inlined lanes choose(wholes which, lanes yes, lanes no) {
    return (lanes)((which & (wholes)yes) | (~which & (wholes)no));
}

inlined lanes higher(lanes a, lanes b) { return choose(a > b, a, b); }

inlined float sum(lanes x) {
    float each[LANES];
    *(lanes *)each = x;
    for (int half = LANES / 2; half; half /= 2)
        for (int n = 0; n < half; n++) each[n] += each[n + half];
    return each[0];
}

inlined float highest(lanes x) {
    float most = x[0];
    for (int n = 1; n < LANES; n++) most = x[n] > most ? x[n] : most;
    return most;
}

inlined lanes exponential(lanes x) {
    x = choose(x < -87.0f, (lanes){} - 87.0f, x);
    lanes power = x * 1.44269504f + 12582912.0f - 12582912.0f; /* rounds */
    lanes r = x - power * 0.693359375f + power * 2.12194440e-4f;
    lanes p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (lanes)((__builtin_convertvector(power, wholes) + 127) << 23);
}

/* erf to 1.5e-7: Abramowitz and Stegun, 7.1.26. */
inlined lanes gelu(lanes x) {
    lanes z = x * 0.70710678f, far = choose(z < 0, -z, z);
    lanes t = 1.0f / (1.0f + 0.3275911f * far);
    lanes p = 1.061405429f * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    lanes erf = 1.0f - p * t * exponential(-far * far);
    return 0.5f * x * (1.0f + choose(z < 0, -erf, erf));
}

/* rows × wide vectors of a product: x (rows, inputs) times w, whose inputs lie step apart. */
inlined void float_block(int rows, int wide, int kind, const float *x, long x_step, const void *w, long at, long step,
                         int inputs, lanes (*sums)[PANEL]) {
    lanes found[ROWS][PANEL] = {};
    for (int k = 0; k < inputs; k++)
        for (int n = 0; n < wide; n++) {
            lanes column = load(w, at + n * LANES + k * step, kind);
            for (int m = 0; m < rows; m++) found[m][n] += x[m * x_step + k] * column;
        }
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < wide; n++) sums[m][n] = found[m][n];
}

/* The same of a panel of bfloat16. */
inlined void half_block(int rows, const float *x, long x_step, const wholes *w, int inputs, lanes (*sums)[PANEL]) {
    lanes found[ROWS][PANEL] = {};
    for (int k = 0; k < inputs; k += 2)
        for (int n = 0; n < PANEL; n++) {
            wholes both = *w++;
            lanes first = (lanes)(both << 16), second = (lanes)(both & (int32_t)0xffff0000);
            for (int m = 0; m < rows; m++) found[m][n] += x[m * x_step + k] * first;
            for (int m = 0; m < rows; m++) found[m][n] += x[m * x_step + k + 1] * second;
        }
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < PANEL; n++) sums[m][n] = found[m][n];
}

#if defined(__AVX512BF16__) && LANES == 16
#define PAIRED(sums, x, column) _mm512_dpbf16_ps((__m512)sums, (__m512bh)_mm512_set1_epi32(x), (__m512bh)column)
#endif
#if defined(__AVX512VNNI__) && LANES == 16
#define FOURFOLD(sums, x, column) _mm512_dpbusd_epi32((__m512i)sums, _mm512_set1_epi32(x), (__m512i)column)
#elif defined(__AVXVNNI__)
#define FOURFOLD(sums, x, column) _mm256_dpbusd_avx_epi32((__m256i)sums, _mm256_set1_epi32(x), (__m256i)column)
#elif defined(__AVX512VNNI__)
#define FOURFOLD(sums, x, column) _mm256_dpbusd_epi32((__m256i)sums, _mm256_set1_epi32(x), (__m256i)column)
#endif

/* Sums and what 32 bits of a row, two inputs or four, give for each output. */
inlined lanes narrow_product(lanes sums, int32_t x, lanes column, int kind) {
#ifdef PAIRED
    if (kind == ROUNDED) return (lanes)PAIRED(sums, x, column);
#endif
#ifdef FOURFOLD
    if (kind == WHOLE) return (lanes)FOURFOLD(sums, x, column);
#endif
    return sums;
}

/* Return whether this processor multiplies a kind of numbers. */
int streamtrans_has(int kind) {
#ifdef PAIRED
    if (kind == ROUNDED) return 1;
#endif
#ifdef FOURFOLD
    if (kind == WHOLE) return 1;
#endif
    return kind == FLOAT || kind == HALF;
}

/* The same of a panel of whole numbers, or of pairs that are rounded. */
inlined void narrow_block(int rows, int kind, const packed *x, long x_step, const lanes *w, int steps,
                          lanes (*sums)[PANEL]) {
    enum { AHEAD = 8192 / sizeof(lanes) }; /* what many rows ask of it hides where memory begins a page */
    lanes found[ROWS][PANEL] = {};
    for (int k = 0; k < steps; k++)
        for (int n = 0; n < PANEL; n++, w++) {
            if (rows > 4) __builtin_prefetch(w + AHEAD);
            lanes column = *w;
            for (int m = 0; m < rows; m++)
                found[m][n] = narrow_product(found[m][n], x[m * x_step + k], column, kind);
        }
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < PANEL; n++) sums[m][n] = found[m][n];
}

/* As many rows as the compiler knows, up to ROWS. */
#define BY_ROWS(rows, block) \
    switch (rows) { \
    case 1: block(1); break; \
    case 2: block(2); break; \
    case 3: block(3); break; \
    case 4: block(ROWS < 4 ? ROWS : 4); break; \
    case 5: block(ROWS < 5 ? ROWS : 5); break; \
    case 6: block(ROWS < 6 ? ROWS : 6); break; \
    case 7: block(ROWS < 7 ? ROWS : 7); break; \
    default: block(ROWS); \
    }

#define FLOATS(rows) float_block(rows, PANEL, FLOAT, x, x_step, w, at, step, inputs, sums)
#define WIDENED(rows) float_block(rows, PANEL, HALF, x, x_step, w, at, step, inputs, sums)
#define FEW_FLOATS(rows) float_block(rows, 1, FLOAT, x, x_step, w, at, step, inputs, sums)
#define FEW_WIDENED(rows) float_block(rows, 1, HALF, x, x_step, w, at, step, inputs, sums)
#define HALVES(rows) half_block(rows, x, x_step, w, inputs, sums)
#define PAIRS(rows) narrow_block(rows, ROUNDED, narrow, x_step, w, inputs / 2, sums)
#define QUADS(rows) narrow_block(rows, WHOLE, narrow, x_step, w, inputs / 4, sums)

/* Up to ROWS rows of a panel, or of one vector. */
static void float_sums(int kind, int rows, int wide, const float *x, long x_step, const void *w, long at, long step,
                       int inputs, lanes (*sums)[PANEL]) {
    if (wide == PANEL && kind == FLOAT)
        BY_ROWS(rows, FLOATS)
    else if (wide == PANEL)
        BY_ROWS(rows, WIDENED)
    else if (kind == FLOAT)
        BY_ROWS(rows, FEW_FLOATS)
    else
        BY_ROWS(rows, FEW_WIDENED)
}

/* out (rows, outputs) = x (rows, inputs) times w, whose outputs lie side by side and whose inputs lie step apart. */
static void product(int kind, const float *x, long x_step, int rows, const void *w, long at, long step, int inputs,
                    int outputs, float *out, long out_step) {
    int all = (outputs + LANES - 1) / LANES, wide = all < PANEL ? 1 : PANEL;
    for (int v = 0; v < all; v += wide)
        for (int m = 0; m < rows; m += ROWS) {
            lanes sums[ROWS][PANEL];
            int count = rows - m < ROWS ? rows - m : ROWS;
            int from = v + wide > all ? all - wide : v; /* some again, where they aren't whole panels */
            float_sums(kind, count, wide, x + m * x_step, x_step, w, at + from * LANES, step, inputs, sums);
            for (int r = 0; r < count; r++)
                memcpy(out + (m + r) * out_step + from * LANES, sums[r], wide * sizeof(lanes));
        }
}

/* Each row as unsigned bytes around 128, and its largest value, for products of whole numbers. A row that holds no
   number has NaN for its largest, and so for its products: what is broken is not to look like an answer. */
static void quantise(const float *x, long x_step, int rows, int inputs, uint8_t *whole, float *largest) {
    for (int m = 0; m < rows; m++, x += x_step, whole += inputs) {
        lanes most = {}, broken = {};
        for (int k = 0; k < inputs; k += LANES) {
            lanes values = *(lanes *)(x + k);
            most = higher(most, higher(values, -values));
            broken += values * 0.0f; /* 0, or NaN of what is none or endless */
        }
        largest[m] = sum(broken) == 0.0f ? fmaxf(highest(most), 1e-30f) : NAN;
        float scale = 127.0f / largest[m];
        for (int k = 0; k < inputs; k += LANES)
            *(octets *)(whole + k) =
                __builtin_convertvector(__builtin_convertvector(*(lanes *)(x + k) * scale + 128.5f, wholes), octets);
    }
}

inlined void finish(lanes value, float *out, int then) {
    if (then == GELU) value = gelu(value);
    if (then == RELU) value = choose(value < 0, (lanes){}, value); /* no number stays none */
    if (then == ADD) value += *(lanes *)out;
    *(lanes *)out = value;
}

static void panel_sums(const Linear *l, int rows, const float *x, const packed *narrow, long x_step, long panel,
                       lanes (*sums)[PANEL]) {
    static const int sizes[] = {4, 2, 1, 2};
    int inputs = l->inputs, step = PANEL * LANES;
    long at = 0;
    const void *w = (const char *)l->weights + panel * step * inputs * sizes[l->kind];
    switch (l->kind) {
    case FLOAT: BY_ROWS(rows, FLOATS) break;
    case HALF: BY_ROWS(rows, HALVES) break;
    case WHOLE: BY_ROWS(rows, QUADS) break;
    default: BY_ROWS(rows, PAIRS)
    }
}

/* Room that a row of so many inputs at most takes in a narrower kind, in numbers. */
static long narrowed(long inputs) { return inputs / 2 + 1; }

/* One linear layer for all rows; threads share its panels. Outputs are written by whole vectors. */
static void linear(const Linear *l, const float *x, long x_step, int rows, float *out, long out_step, int then,
                   uint8_t *bytes) {
    int panels = (l->outputs + PANEL * LANES - 1) / (PANEL * LANES), inputs = l->inputs;
    float *largest = (float *)bytes;
    packed *narrow = (packed *)(largest + rows);
    long step = l->kind == WHOLE ? inputs / 4 : l->kind == ROUNDED ? inputs / 2 : 0;
    if (l->kind == WHOLE) quantise(x, x_step, rows, inputs, (uint8_t *)narrow, largest);
    for (int m = 0; m < rows && l->kind == ROUNDED; m++)
        for (int k = 0; k < inputs; k += LANES) store(narrow + m * step, k, HALF, *(lanes *)(x + m * x_step + k));
#pragma omp for schedule(static)
    for (int p = 0; p < panels; p++)
        for (int m = 0; m < rows; m += ROWS) {
            int count = rows - m < ROWS ? rows - m : ROWS;
            lanes sums[ROWS][PANEL];
            panel_sums(l, count, x + m * x_step, narrow + m * step, step ? step : x_step, p, sums);
            for (int r = 0; r < count; r++)
                for (int n = 0, column; n < PANEL && (column = (p * PANEL + n) * LANES) < l->outputs; n++) {
                    lanes value = sums[r][n];
                    if (l->kind == WHOLE)
                        value = __builtin_convertvector((wholes)value - *(wholes *)(l->shift + column), lanes) *
                                *(lanes *)(l->step + column) * largest[m + r];
                    finish(value + *(lanes *)(l->bias + column), out + (m + r) * out_step + column, then);
                }
        }
}

static void normalise(const Norm *norm, const float *x, int rows, int width, float *out) {
    for (int m = 0; m < rows; m++, x += width, out += width) {
        lanes total = {}, squares = {};
        for (int n = 0; n < width; n += LANES) total += *(lanes *)(x + n);
        float mean = sum(total) / width;
        for (int n = 0; n < width; n += LANES) {
            lanes apart = *(lanes *)(x + n) - mean;
            squares += apart * apart;
        }
        float scale = 1.0f / sqrtf(sum(squares) / width + 1e-5f);
        for (int n = 0; n < width; n += LANES)
            *(lanes *)(out + n) =
                (*(lanes *)(x + n) - mean) * scale * *(lanes *)(norm->weight + n) + *(lanes *)(norm->bias + n);
    }
}

/* Weights of scores, in place; what stands behind them up to a whole vector becomes zero. */
static void softmax(float *scores, int count) {
    for (int n = count; n % LANES; n++) scores[n] = -INFINITY;
    lanes most = *(lanes *)scores, total = {};
    for (int n = LANES; n < count; n += LANES) most = higher(most, *(lanes *)(scores + n));
    float top = highest(most);
    for (int n = 0; n < count; n += LANES) {
        lanes some = *(lanes *)(scores + n);
        total += *(lanes *)(scores + n) = choose(some == -INFINITY, (lanes){}, exponential(some - top));
    }
    float scale = 1.0f / sum(total);
    for (int n = 0; n < count; n += LANES) *(lanes *)(scores + n) *= scale;
}

static long ceiling(long count) { return (count + LANES - 1) / LANES * LANES; }

#ifdef _OPENMP
int omp_get_thread_num(void);
#else
static int omp_get_thread_num(void) { return 0; }
#endif

/* Return whether threads share the work. */
int streamtrans_shares(void) {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

/* out (rows, out_step) = one linear layer of x (rows, inputs), by whole vectors. Returns 0, or 1 without memory. */
int streamtrans_linear(const Linear *l, const float *x, int rows, float *out, long out_step, int threads) {
    long each = ceiling(rows * narrowed(l->inputs));
    float *room = aligned_alloc(64, (size_t)threads * each * sizeof(float));
    if (!room) return 1;
#pragma omp parallel num_threads(threads)
    linear(l, x, l->inputs, rows, out, out_step, SET, (uint8_t *)(room + omp_get_thread_num() * each));
    free(room);
    return 0;
}

/* Of each row of scores (rows, size), steps apart, masked first: the best token, of equals the first, its score, the
   logarithm of what all weigh against it; and of a draft (-1: none) its score and how many are preferred to it. */
void streamtrans_choose(float *scores, int rows, int size, long step, const float *mask, const int32_t *drafts,
                        int32_t *best, int32_t *ahead, float *top, float *rest, float *own) {
    for (int r = 0; r < rows; r++, scores += step) {
        int whole = size / LANES * LANES, at = 0;
        lanes some, most_of = {};
        most_of -= INFINITY;
        for (int n = 0; n < whole; n += LANES) {
            *(lanes *)(scores + n) = some = *(lanes *)(scores + n) + *(lanes *)(mask + n);
            most_of = higher(some, most_of);
        }
        float most = highest(most_of), others = 0;
        for (int n = whole; n < size; n++) most = fmaxf(most, scores[n] += mask[n]);
        while (at < size - 1 && scores[at] != most) at++;
        lanes total = {};
        wholes before = {};
        float mine = drafts[r] < 0 ? 0 : scores[drafts[r]];
        for (int n = 0; n < whole; n += LANES) {
            some = *(lanes *)(scores + n);
            total += choose(some == -INFINITY, (lanes){}, exponential(some - most));
            before -= some > mine;
        }
        int preferred = 0;
        for (int n = 0; n < LANES; n++) preferred += before[n];
        for (int n = whole; n < size; n++) others += expf(scores[n] - most), preferred += scores[n] > mine;
        for (int n = 0; n < drafts[r]; n++) preferred += scores[n] == mine;
        best[r] = at, ahead[r] = preferred, top[r] = most, rest[r] = logf(sum(total) + others), own[r] = mine;
    }
}
