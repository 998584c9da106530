/* A pass through decoder layers in slots, as one call. model/fused.py compiles this file and calls it.

   Law: every sum is taken in one order, whatever stands beside it. A row of many equals the row alone to the last
   bit; holes between slots, unequal lengths and unequal memories cost nothing, for nothing is padded or copied.

   Matrices are read in panels of 32 outputs, input by input, each one stream of memory: float32, bfloat16 (widened as it is read), or whole
   numbers, four inputs at a time. Vectors are the compiler's own, so this runs wherever it compiles; only whole
   numbers ask for an instruction (AVX512-VNNI). Widths of heads and of the model are multiples of 16. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __AVX512VNNI__
#include <immintrin.h>
#endif

enum { LANES = 16, PANEL = 4, ROWS = 8 };
enum { FLOAT, HALF, WHOLE };   /* kinds of numbers */
enum { SET, GELU, RELU, ADD }; /* what becomes of a product */

typedef float lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t wholes __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t halves __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint8_t bytes16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef float eight __attribute__((vector_size(32)));
typedef float four __attribute__((vector_size(16)));
#define inlined static inline __attribute__((always_inline))

typedef struct {
    const void *weights;    /* (panels, inputs, 32), or (panels, inputs / 4, 32, 4) whole numbers; two at a time */
    const float *bias;      /* as the next two, for outputs up to a whole panel */
    const float *step;      /* what a whole number is worth, per output */
    const int32_t *shift;   /* 128 times the sum of an output's weights: inputs are shifted into unsigned bytes */
    int32_t kind, inputs, outputs;
} Linear;

typedef struct { const float *weight, *bias; } Norm; /* weight NULL: there is none */

typedef struct {
    Norm before, after, cross_norm, mlp_norm; /* of what attention to the text reads, and of what it answers */
    Linear qkv, out, cross_q, cross_out, up, down;
    uint64_t watched;       /* heads whose attention to the memory is wanted */
    int32_t first_watched;  /* where the first of them is written */
    int32_t span;           /* keys per position: KVSPN reads several layers */
    int32_t reads;          /* 0: writes keys and sees them; 1: sees those of others, written before; 2: and its own */
} Block;

typedef struct {
    void *keys, *values;               /* (slot, head, time, layer, D), from this block's first layer on */
    const void *cross_keys, *cross_values; /* (lane, head, D, frame), (lane, head, frame, D) */
    float *own_keys, *own_values;      /* (text, head, chain, D), of KVSPN */
} Memory;

typedef struct {
    int32_t first, rows;    /* its rows of the pass */
    int32_t slot, lane;     /* where its text lies, and its memory */
    int32_t begin, start;   /* keys seen: from there up to the positions of this pass */
    int32_t frames;         /* of its memory */
    int32_t chain;          /* own keys that stand before this pass */
} Text;

typedef struct {
    int32_t blocks, heads, width, kind;     /* kind of numbers in slots */
    int64_t slot, head, time;               /* steps of keys and values */
    int64_t frames;                         /* allocated per lane */
    int32_t chain, watched_frames;          /* own keys, and frames per watched row, that there is room for */
} Shape;

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
    union { lanes all; eight halves[2]; } a = {x};
    union { eight all; four halves[2]; } b = {a.halves[0] + a.halves[1]};
    four c = b.halves[0] + b.halves[1];
    return (c[0] + c[2]) + (c[1] + c[3]);
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

/* rows × wide vectors of a product: x (rows, inputs) times w, whose inputs lie step apart, and pairs of vectors pair. */
inlined void float_block(int rows, int wide, int kind, const float *x, long x_step, const void *w, long at, long pair,
                         long step, int inputs, lanes (*sums)[PANEL]) {
    lanes found[ROWS][PANEL] = {};
    for (int k = 0; k < inputs; k++)
        for (int n = 0; n < wide; n++) {
            lanes column = load(w, at + n / 2 * pair + n % 2 * LANES + k * step, kind);
            for (int m = 0; m < rows; m++) found[m][n] += x[m * x_step + k] * column;
        }
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < wide; n++) sums[m][n] = found[m][n];
}

/* Sums stay in registers: up to four rows of four vectors, or eight of two. */
#define BY_SIZE(rows, wide, block) \
    switch (wide << 4 | rows) { \
    case 0x41: block(1, 4); break; \
    case 0x42: block(2, 4); break; \
    case 0x43: block(3, 4); break; \
    case 0x44: block(4, 4); break; \
    case 0x21: block(1, 2); break; \
    case 0x22: block(2, 2); break; \
    case 0x23: block(3, 2); break; \
    case 0x24: block(4, 2); break; \
    case 0x25: block(5, 2); break; \
    case 0x26: block(6, 2); break; \
    case 0x27: block(7, 2); break; \
    case 0x28: block(8, 2); break; \
    default: block(rows, 1); \
    }

static int width_of_block(int rows, int vectors) { return vectors >= 4 && rows <= 4 ? 4 : vectors >= 2 ? 2 : 1; }

#define FLOAT_BLOCK(rows, wide) float_block(rows, wide, FLOAT, x, x_step, w, at, pair, step, inputs, sums)
#define HALF_BLOCK(rows, wide) float_block(rows, wide, HALF, x, x_step, w, at, pair, step, inputs, sums)

/* The same for up to ROWS rows and PANEL vectors, by blocks. */
static void float_sums(int kind, int rows, int vectors, const float *x, long x_step, const void *w, long at, long pair,
                       long step, int inputs, lanes (*sums)[PANEL]) {
    for (int wide; vectors > 0; vectors -= wide, at += wide / 2 * pair, sums = (lanes (*)[PANEL])(*sums + wide)) {
        wide = width_of_block(rows, vectors);
        if (kind == FLOAT)
            BY_SIZE(rows, wide, FLOAT_BLOCK)
        else
            BY_SIZE(rows, wide, HALF_BLOCK)
    }
}

/* out (rows, outputs) = x (rows, inputs) times w, whose outputs lie side by side and whose inputs lie step apart. */
static void product(int kind, const float *x, long x_step, int rows, const void *w, long at, long step, int inputs,
                    int outputs, float *out, long out_step) {
    int all = (outputs + LANES - 1) / LANES;
    for (int v = 0; v < all; v += PANEL)
        for (int m = 0; m < rows; m += ROWS) {
            lanes sums[ROWS][PANEL];
            int some = rows - m < ROWS ? rows - m : ROWS, vectors = all - v < PANEL ? all - v : PANEL;
            float_sums(kind, some, vectors, x + m * x_step, x_step, w, at + v * LANES, 2 * LANES, step,
                       inputs, sums);
            for (int r = 0; r < some; r++)
                memcpy(out + (m + r) * out_step + v * LANES, sums[r], vectors * sizeof(lanes));
        }
}

int streamtrans_has_whole(void) {
#ifdef __AVX512VNNI__
    return 1;
#else
    return 0;
#endif
}

inlined void whole_block(int rows, int wide, const uint8_t *x, long x_step, const int8_t *w, int quads,
                         wholes (*sums)[PANEL]) {
#ifdef __AVX512VNNI__
    __m512i found[ROWS][PANEL] = {};
    for (int k = 0; k < quads; k++)
        for (int n = 0; n < wide; n++) {
            __m512i column = _mm512_loadu_si512(w + (n / 2 * quads * 2L + k * 2 + n % 2) * sizeof(wholes));
            for (int m = 0; m < rows; m++) {
                int32_t four;
                memcpy(&four, x + m * x_step + 4 * k, 4);
                found[m][n] = _mm512_dpbusd_epi32(found[m][n], _mm512_set1_epi32(four), column);
            }
        }
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < wide; n++) sums[m][n] = (wholes)found[m][n];
#endif
}

#define WHOLE_BLOCK(rows, wide) whole_block(rows, wide, x, x_step, w, quads, sums)

static void whole_sums(int rows, const uint8_t *x, long x_step, const int8_t *w, int quads, wholes (*sums)[PANEL]) {
    int wide = width_of_block(rows, PANEL);
    for (int v = 0; v < PANEL; v += wide, w += wide * quads * sizeof(wholes), sums = (wholes (*)[PANEL])(*sums + wide))
        BY_SIZE(rows, wide, WHOLE_BLOCK)
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
            *(bytes16 *)(whole + k) =
                __builtin_convertvector(__builtin_convertvector(*(lanes *)(x + k) * scale + 128.5f, wholes), bytes16);
    }
}

inlined void finish(lanes value, float *out, int then) {
    if (then == GELU) value = gelu(value);
    if (then == RELU) value = choose(value < 0, (lanes){}, value); /* no number stays none */
    if (then == ADD) value += *(lanes *)out;
    *(lanes *)out = value;
}

/* One linear layer for all rows; threads share its panels. Outputs are written by whole vectors. */
static void linear(const Linear *l, const float *x, long x_step, int rows, float *out, long out_step, int then,
                   uint8_t *bytes) {
    int panels = (l->outputs + PANEL * LANES - 1) / (PANEL * LANES), inputs = l->inputs;
    float *largest = (float *)bytes;
    uint8_t *whole = bytes + rows * sizeof(float);
    if (l->kind == WHOLE) quantise(x, x_step, rows, inputs, whole, largest);
#pragma omp for schedule(static)
    for (int p = 0; p < panels; p++)
        for (int m = 0; m < rows; m += ROWS) {
            int some = rows - m < ROWS ? rows - m : ROWS;
            union { lanes floats[ROWS][PANEL]; wholes wholes[ROWS][PANEL]; } sums;
            long at = (long)p * PANEL * LANES * inputs;
            if (l->kind == WHOLE)
                whole_sums(some, whole + (long)m * inputs, inputs, (const int8_t *)l->weights + at, inputs / 4,
                           sums.wholes);
            else
                float_sums(l->kind, some, PANEL, x + m * x_step, x_step, l->weights, at, 2 * LANES * inputs,
                           2 * LANES, inputs, sums.floats);
            for (int r = 0; r < some; r++)
                for (int n = 0, column; n < PANEL && (column = (p * PANEL + n) * LANES) < l->outputs; n++) {
                    lanes value = sums.floats[r][n];
                    if (l->kind == WHOLE)
                        value = __builtin_convertvector(sums.wholes[r][n] - *(wholes *)(l->shift + column), lanes) *
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

/* Scores of keys that lie as rows of d, steps apart. */
static void dots(const float *query, const void *keys, int kind, int count, long step, int d, float *scores) {
    for (int t = 0; t < count; t++) {
        lanes total = {};
        for (int n = 0; n < d; n += LANES) total += *(lanes *)(query + n) * load(keys, t * step + n, kind);
        scores[t] = sum(total);
    }
}

/* One head of one text: write its keys and values, then let each of its rows see what it may. */
static void attend(const Shape *s, const Block *b, const Memory *m, const Text *text, int number, int head,
                   const float *qkv, long qkv_step, float *seen, float *scores) {
    int d = s->width / s->heads, own = b->reads == 2;
    float scale = 1.0f / sqrtf(d);
    long base = text->slot * s->slot + head * s->head, first = base + text->begin * s->time;
    float *own_keys = 0, *own_values = 0;
    if (own) {
        long at = ((long)number * s->heads + head) * s->chain * d;
        own_keys = m->own_keys + at, own_values = m->own_values + at;
    }
    for (int r = 0; r < text->rows; r++) {
        const float *row = qkv + (text->first + r) * qkv_step + head * d;
        for (int n = 0; n < d && b->reads != 1; n += LANES) {
            long at = own ? (text->chain + r) * d + n : base + (text->start + r) * s->time + n;
            store(own ? own_keys : m->keys, at, own ? FLOAT : s->kind, *(lanes *)(row + s->width + n));
            store(own ? own_values : m->values, at, own ? FLOAT : s->kind, *(lanes *)(row + 2 * s->width + n));
        }
    }
    const char *keys = (const char *)m->keys + first * (s->kind == FLOAT ? 4 : 2);
    const char *values = (const char *)m->values + first * (s->kind == FLOAT ? 4 : 2);
    long step = b->span == 1 ? s->time : d; /* of several layers all are read, which lie side by side */
    for (int r = 0; r < text->rows; r++) {
        float query[d], more[d], *out = seen + (long)(text->first + r) * s->width + head * d;
        for (int n = 0; n < d; n++) query[n] = qkv[(text->first + r) * qkv_step + head * d + n] * scale;
        int count = (text->start - text->begin + (b->reads ? 0 : r + 1)) * b->span;
        int chain = own ? text->chain + r + 1 : 0;
        dots(query, keys, s->kind, count, step, d, scores);
        dots(query, own_keys, FLOAT, chain, d, d, scores + count);
        memset(out, 0, d * sizeof(float)); /* of nothing, nothing is seen */
        if (count + chain) softmax(scores, count + chain);
        if (count) product(s->kind, scores, 0, 1, values, 0, step, count, d, out, 0);
        if (chain) product(FLOAT, scores + count, 0, 1, own_values, 0, d, chain, d, more, 0);
        for (int n = 0; chain && n < d; n++) out[n] += more[n];
    }
}

/* One head of rows that attend to one memory. */
static void cross(const Shape *s, const Block *b, const Memory *m, int lane, int frames, int first, int rows, int head,
                  const float *queries, long q_step, float *seen, float *scores, float *watched, int all_rows) {
    int d = s->width / s->heads;
    float scale = 1.0f / sqrtf(d);
    long at = ((long)lane * s->heads + head) * d * s->frames, room = (frames + LANES - 1) / LANES * LANES;
    for (int r = 0; r < rows; r += ROWS) {
        int some = rows - r < ROWS ? rows - r : ROWS;
        float scaled[ROWS * d];
        for (int i = 0; i < some; i++)
            for (int n = 0; n < d; n++) scaled[i * d + n] = queries[(first + r + i) * q_step + head * d + n] * scale;
        product(s->kind, scaled, d, some, m->cross_keys, at, s->frames, d, frames, scores, room);
        for (int i = 0; i < some; i++) {
            softmax(scores + i * room, frames);
            if (!(b->watched >> head & 1)) continue;
            int place = b->first_watched + __builtin_popcountll(b->watched & ((1ull << head) - 1));
            memcpy(watched + ((long)place * all_rows + first + r + i) * s->watched_frames, scores + i * room,
                   frames * sizeof(float));
        }
        product(s->kind, scores, room, some, m->cross_values, at, d, frames, d,
                seen + (long)(first + r) * s->width + head * d, s->width);
    }
}

static long ceiling(long count) { return (count + LANES - 1) / LANES * LANES; }

static int thread(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* Take x (rows, width) through all blocks, in place. Returns 0, or 1 where memory is wanting. */
int streamtrans_pass(const Shape *s, const Block *blocks, const Memory *memories, float *x, int rows, const Text *texts,
                     int count, float *watched, int threads) {
    long width = s->width, wide = 3 * width, most = 0;
    for (int l = 0; l < s->blocks; l++) {
        if (blocks[l].up.outputs > wide) wide = blocks[l].up.outputs;
        for (int t = 0; t < count; t++) {
            long keys = (long)(texts[t].start + texts[t].rows) * blocks[l].span + texts[t].chain + texts[t].rows;
            long scores = ceiling(texts[t].frames) * ROWS;
            if (keys > most) most = keys;
            if (scores > most) most = scores;
        }
    }
    /* Each thread normalises, quantises and keeps scores for itself: that is cheaper than waiting for another. */
    long shared = rows * (wide + 2 * width), each = rows * (width + wide / 4 + 1) + ceiling(most + LANES);
    each = ceiling(each);
    float *room = aligned_alloc(64, (size_t)(ceiling(shared) + threads * each) * sizeof(float));
    if (!room) return 1;
    float *inner = room, *seen = inner + rows * wide, *answer = seen + rows * width;
#pragma omp parallel num_threads(threads)
    {
        float *normed = room + ceiling(shared) + thread() * each, *scores = normed + rows * width;
        uint8_t *bytes = (uint8_t *)(scores + ceiling(most + LANES));
        for (int l = 0; l < s->blocks; l++) {
            const Block *b = blocks + l;
            const Memory *m = memories + l;
            if (b->before.weight) normalise(&b->before, x, rows, width, normed);
            linear(&b->qkv, b->before.weight ? normed : x, width, rows, inner, wide, SET, bytes);
#pragma omp for collapse(2) schedule(static)
            for (int t = 0; t < count; t++)
                for (int head = 0; head < s->heads; head++)
                    attend(s, b, m, texts + t, t, head, inner, wide, seen, scores);
            if (!b->after.weight)
                linear(&b->out, seen, width, rows, x, width, ADD, bytes);
            else {
                linear(&b->out, seen, width, rows, answer, width, SET, bytes);
#pragma omp for schedule(static)
                for (int r = 0; r < rows; r++) {
                    normalise(&b->after, answer + r * width, 1, width, answer + r * width);
                    for (int n = 0; n < width; n++) x[r * width + n] += answer[r * width + n];
                }
            }
            normalise(&b->cross_norm, x, rows, width, normed);
            linear(&b->cross_q, normed, width, rows, inner, wide, SET, bytes);
#pragma omp for collapse(2) schedule(static)
            for (int t = 0; t < count; t++)
                for (int head = 0; head < s->heads; head++) {
                    /* Texts about one memory that stand together are read as one. */
                    if (t && texts[t - 1].lane == texts[t].lane) continue;
                    int some = texts[t].rows;
                    for (int next = t + 1; next < count && texts[next].lane == texts[t].lane; next++)
                        some += texts[next].rows;
                    cross(s, b, m, texts[t].lane, texts[t].frames, texts[t].first, some, head, inner, wide, seen,
                          scores, watched, rows);
                }
            linear(&b->cross_out, seen, width, rows, x, width, ADD, bytes);
            normalise(&b->mlp_norm, x, rows, width, normed);
            linear(&b->up, normed, width, rows, inner, wide, GELU, bytes);
            linear(&b->down, inner, wide, rows, x, width, ADD, bytes);
        }
    }
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

/* out (rows, out_step) = one linear layer of x (rows, inputs), by whole vectors. Returns 0, or 1 without memory. */
int streamtrans_linear(const Linear *l, const float *x, int rows, float *out, long out_step, int threads) {
    long each = ceiling(rows * (l->inputs / 4 + 1L));
    float *room = aligned_alloc(64, (size_t)threads * each * sizeof(float));
    if (!room) return 1;
#pragma omp parallel num_threads(threads)
    linear(l, x, l->inputs, rows, out, out_step, SET, (uint8_t *)(room + thread() * each));
    free(room);
    return 0;
}
